"""The course of a checked test: device on, setup, start, call, verdict, teardown, device off."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import pytest

from pytest_memreq import garbage
from pytest_memreq.errors import DeviceLostError, MemreqError
from pytest_memreq.gate.verdict import Verdict
from pytest_memreq.plugin.baselines import Baselines, is_outside
from pytest_memreq.plugin.calling import called
from pytest_memreq.plugin.checks import CHECK, Check, check_of
from pytest_memreq.plugin.config import Settings
from pytest_memreq.plugin.course import COURSE, Course
from pytest_memreq.plugin.covering import Covering
from pytest_memreq.plugin.elsewhere import check_elsewhere
from pytest_memreq.plugin.enforcing import enforce, show_message_alone
from pytest_memreq.plugin.frames import clear_frames
from pytest_memreq.plugin.housing import NO_ROOM
from pytest_memreq.plugin.isolation import is_to_isolate, run_isolated
from pytest_memreq.plugin.meters import Meter, Meters
from pytest_memreq.plugin.on_ranks import check_ranks, is_for_ranks, run_on_ranks
from pytest_memreq.plugin.owning import Owning
from pytest_memreq.plugin.progress import start_progress
from pytest_memreq.plugin.purpose import has_workers, runs_tests
from pytest_memreq.plugin.rehearsal import REHEARSED, is_rehearsal, rehearse
from pytest_memreq.plugin.resulting import result_for
from pytest_memreq.plugin.watching import HEARING
from pytest_memreq.plugin.wire import attach, attach_leak, refuse_run


class Session:
    """pytest's hooks around a test, in the process that runs it."""

    def __init__(
        self, config: pytest.Config, settings: Settings, baselines: Baselines | None
    ) -> None:
        self.settings = settings
        self.baselines = baselines
        self.covering = None
        # For a baseline, and for the controller of workers, which is told of crashes by name.
        if baselines is not None or hasattr(config, "workeroutput"):
            self.covering = Covering(config)
            config.pluginmanager.register(self.covering, "memreq-covering")
        self.meters = Meters(config, settings)
        self.aside = garbage.Aside(is_ours=False)
        self.owning = Owning(self.meters, settings)
        config.pluginmanager.register(self.owning, "memreq-owning")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> Generator[None, object, object]:
        """Of all tests, those that are deselected too, with the markers that others add here."""
        collected = list(items)
        outcome = yield
        self.find_checks(config, items, collected)
        return outcome

    def find_checks(
        self, config: pytest.Config, items: list[pytest.Item], collected: list[pytest.Item]
    ) -> None:
        """Find out what is checked; a bad marker ends the run before any test."""
        every = dict.fromkeys([*collected, *items])
        try:
            checks = {item: check_of(item, self.settings) for item in every}
            judged = [item for item, check in checks.items() if check and check.is_judged]
            check_elsewhere(config, self.settings, every, judged)
            if judged and self.meters.ranks.problem:
                raise MemreqError(self.meters.ranks.problem)
        except MemreqError as error:
            refuse_run(config, items, str(error))
            return
        if self.covering is not None:
            self.covering.note_unchecked(
                item.nodeid
                for item in checks.keys() - set(judged)
                if not is_outside(item.path, config.rootpath)
            )
        for item, check in checks.items():
            if check is not None:
                item.stash[CHECK] = check

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Modules are there, and no fixture is: what is alive stays so until the end."""
        has_checks = any(CHECK in item.stash for item in session.items)
        self.owning.begin(has_checks=has_checks)
        if not has_checks:
            self._step_aside(session.config)
        if not has_checks or not runs_tests(session.config):
            return (yield)
        self.meters.load()
        start_progress(session.config)
        with garbage.imports_set_aside() as self.aside:
            return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> object | None:
        """Let no fixture pass between a pretended card and anything else.

        pytest finalizes every fixture of a test that nothing follows.
        """
        if is_for_ranks(item, self.meters.ranks.world_size):
            run_on_ranks(item)
            return True
        if is_to_isolate(item):
            run_isolated(item, self.meters)
            return True
        if self._is_to_rehearse(item) and REHEARSED not in item.stash:
            item.stash[REHEARSED] = None
            rehearse(item)
        if nextitem is None or self._kind(item) == self._kind(nextitem):
            return None
        done: object = item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
        return done

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        """The device is there while fixtures are set up."""
        __tracebackhide__ = True
        check = item.stash.get(CHECK, None)
        if check is None:
            return (yield)
        course = item.stash[COURSE] = self._begin(item, check)
        if course.meter is None:
            return (yield)
        try:
            with course.meter.active():
                return (yield)
        except DeviceLostError as error:
            self.meters.lost = f"{error} (in the setup of {item.nodeid})"
            raise (error.__cause__ or error) from None

    @pytest.hookimpl(specname="pytest_runtest_setup", tryfirst=True)
    def pytest_memreq_small_card(self, item: pytest.Item) -> None:
        """Within the setup, as pytest's own skips are: what goes around it has to be there."""
        course = item.stash.get(COURSE, None)
        if course is not None and course.meter is not None:
            course.refuse_small_card()

    @pytest.hookimpl(specname="pytest_runtest_setup")
    def pytest_memreq_no_room(self, item: pytest.Item) -> None:
        """After all that may skip the test, and before its fixtures."""
        __tracebackhide__ = True
        course = item.stash.get(COURSE, None)
        if course is not None and course.meter is None and NO_ROOM in item.stash:
            course.verdict = Verdict(word="unchecked", reason=course.problem)
            enforce(item.nodeid, course, self.settings)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Run the test, find out what it needed, and fail it here if that is too much."""
        __tracebackhide__ = True
        course = item.stash.get(COURSE, None)
        if course is None:
            return (yield)
        if course.meter is None:
            course.verdict = Verdict(word="unchecked", reason=course.problem)
            enforce(item.nodeid, course, self.settings)
            return (yield)
        try:
            outcome = yield from called(item, course, self.settings, self.owning)
        except DeviceLostError as error:
            course.lose(error)
            # What the device said first, and not that we could not ask it any more.
            raise (error.__cause__ or error) from None
        except BaseException as error:  # pytest's own outcomes too; it goes on
            enforce(item.nodeid, course, self.settings, error)
            raise
        finally:
            if course.lost:
                self.meters.lost = f"{course.lost} (in {item.nodeid})"
        enforce(item.nodeid, course, self.settings)
        return outcome

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """The device is there while fixtures are torn down; then see what the test left."""
        __tracebackhide__ = True
        course = item.stash.get(COURSE, None)
        if course is None or course.meter is None:
            outcome = yield
            self.owning.pass_by(item)
            return outcome
        with course.meter.active():
            try:
                return (yield)
            finally:
                self._leave(item, course, course.meter)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Put the result on the report, which brings it to the controller; let go of the frames."""
        report = yield
        course = item.stash.get(COURSE, None)
        if course is None:
            return report
        if call.excinfo is not None:
            show_message_alone(item, report, call.excinfo)
        result = result_for(course, report, self.settings.divergence)
        if result is not None:
            attach(report, result, course.environment())
        elif report.when == "teardown" and course.leaked_bytes is not None:
            attach_leak(report, course.leaked_bytes)
        if call.excinfo is not None and not _is_to_be_debugged(item, report):
            clear_frames(call.excinfo.value)
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_exception_interact(
        self, node: pytest.Item | pytest.Collector, call: pytest.CallInfo[None]
    ) -> Generator[None, object, object]:
        """After the debugger, the frames that it was to see."""
        outcome = yield
        if call.excinfo is not None and COURSE in node.stash:
            clear_frames(call.excinfo.value)
        return outcome

    def _step_aside(self, config: pytest.Config) -> None:
        """Without a checked test, no test is to cost anything."""
        plugins = config.pluginmanager
        plugins.unregister(self.owning)
        plugins.unregister(self)
        if not has_workers(config) and plugins.hasplugin(HEARING):
            plugins.unregister(name=HEARING)

    def _begin(self, item: pytest.Item, check: Check) -> Course:
        gpu, is_first = check.budget.gpu, is_rehearsal(item)
        try:
            if NO_ROOM in item.stash and not is_first:
                raise MemreqError(item.stash[NO_ROOM])
            check_ranks(check.budget.ranks, self.meters.ranks.world_size)
            meter = self.meters.rehearsal_for(gpu) if is_first else self.meters.meter_for(gpu)
        except MemreqError as error:
            return Course(nodeid=item.nodeid, check=check, meter=None, problem=str(error))
        course = Course(
            nodeid=item.nodeid,
            check=check,
            meter=meter,
            is_rehearsal=is_first,
            rehearsed=None if is_first else item.stash.get(REHEARSED, None),
            baselines=self.baselines,
            not_held="" if self.baselines is None else self.baselines.why_not(item),
        )
        return self._prepared(item, course)

    def _prepared(self, item: pytest.Item, course: Course) -> Course:
        assert course.meter is not None
        try:
            course.meter.prepare()
            self.owning.enter(item, course.meter)
        except DeviceLostError as error:
            self.meters.lost = f"{error} (before {item.nodeid})"
            return replace(course, meter=None, problem=self.meters.lost)
        return course

    def _leave(self, item: pytest.Item, course: Course, meter: Meter) -> None:
        if self.meters.lost:
            self.owning.forget()
            return
        # pytest lets go of what fixtures gave only after the last report of a test.
        getattr(item, "funcargs", {}).clear()
        try:
            if meter.allocated_bytes():
                meter.tidy()
            course.leaked_bytes = self.owning.leave(item, meter)
            if course.leaked_bytes and self.aside.bring_back():
                meter.tidy()
                course.leaked_bytes = self.owning.leave(item, meter)
                self.aside.go_on()
            elif not meter.allocated_bytes():
                self.aside.add()
        except DeviceLostError as error:
            self.meters.lost = f"{error} (after {item.nodeid})"

    def _kind(self, item: pytest.Item) -> str | None:
        check = item.stash.get(CHECK, None)
        if check is None:
            return None
        is_elsewhere = is_to_isolate(item) or is_for_ranks(item, self.meters.ranks.world_size)
        if is_elsewhere or self._is_to_rehearse(item):
            return item.nodeid  # it follows a pretended test, and one may follow it
        return self.meters.kind_of(check.budget.gpu) or None

    def _is_to_rehearse(self, item: pytest.Item) -> bool:
        check = item.stash.get(CHECK, None)
        is_judged = check is not None and check.is_judged
        return is_judged and self.settings.mode == "both" and bool(self.meters.backends())


def _is_to_be_debugged(item: pytest.Item, report: pytest.TestReport) -> bool:
    """True where `pytest_exception_interact` follows, and shows the frames to a debugger."""
    is_expected = report.skipped or hasattr(report, "wasxfail")
    return bool(item.config.getoption("usepdb", False)) and not is_expected
