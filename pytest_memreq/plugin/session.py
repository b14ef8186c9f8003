"""The course of a checked test: device on, setup, start, call, verdict, teardown, device off."""

from __future__ import annotations

import traceback
from collections.abc import Generator

import pytest

from pytest_memreq.errors import MemreqError
from pytest_memreq.gate.verdict import Verdict
from pytest_memreq.plugin.checks import CHECK, Check, check_of
from pytest_memreq.plugin.config import Settings
from pytest_memreq.plugin.course import COURSE, Course, enforce
from pytest_memreq.plugin.meters import Meters
from pytest_memreq.plugin.rehearsal import SIMULATED, is_rehearsal, rehearse
from pytest_memreq.plugin.wire import attach, refuse_run


class Session:
    """pytest's hooks around a test, in the process that runs it."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self.settings = settings
        self.meters = Meters(config, settings)

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Find out what is checked; a bad marker ends the run before any test."""
        try:
            checks = {item: check_of(item, self.settings) for item in items}
        except MemreqError as error:
            refuse_run(config, items, str(error))
            return
        for item, check in checks.items():
            if check is not None:
                item.stash[CHECK] = check

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> object | None:
        """Let no fixture pass between a pretended card and anything else.

        pytest finalizes every fixture of a test that nothing follows.
        """
        if self._is_to_rehearse(item) and SIMULATED not in item.stash:
            item.stash[SIMULATED] = None
            rehearse(item)
        if nextitem is None or self._kind(item) == self._kind(nextitem):
            return None
        done: object = item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
        return done

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        """The device is there while fixtures are set up."""
        check = item.stash.get(CHECK, None)
        if check is None:
            return (yield)
        course = item.stash[COURSE] = self._begin(item, check)
        if course.meter is None:
            return (yield)
        course.meter.prepare()
        with course.meter.active():
            return (yield)

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
        with course.meter.active():
            course.meter.start()
            try:
                outcome = yield
            except BaseException as error:
                course.conclude(error)
                enforce(item.nodeid, course, self.settings)
                raise
            course.conclude(None)
        enforce(item.nodeid, course, self.settings)
        return outcome

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """The device is there while fixtures are torn down."""
        course = item.stash.get(COURSE, None)
        if course is None or course.meter is None:
            return (yield)
        with course.meter.active():
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Put the result on the report, which brings it to the controller; let go of the frames."""
        report = yield
        course = item.stash.get(COURSE, None)
        if course is None:
            return report
        _show_message_alone(report)
        result = course.result_for(report)
        if result is not None:
            attach(report, result, course.environment())
        if call.excinfo is not None and not item.config.getoption("usepdb", False):
            # They would hold the test's tensors until the next failure.
            traceback.clear_frames(call.excinfo.tb)
        return report

    def _begin(self, item: pytest.Item, check: Check) -> Course:
        gpu = check.budget.gpu
        if is_rehearsal(item):
            return Course(check=check, meter=self.meters.rehearsal_for(gpu), is_rehearsal=True)
        simulated = item.stash.get(SIMULATED, None)
        try:
            return Course(check=check, meter=self.meters.meter_for(gpu), simulated=simulated)
        except MemreqError as error:
            return Course(check=check, meter=None, problem=str(error))

    def _kind(self, item: pytest.Item) -> str | None:
        check = item.stash.get(CHECK, None)
        if check is None:
            return None
        if self._is_to_rehearse(item):
            return item.nodeid  # it follows a pretended test, and one may follow it
        return self.meters.kind_of(check.budget.gpu) or None

    def _is_to_rehearse(self, item: pytest.Item) -> bool:
        check = item.stash.get(CHECK, None)
        is_judged = check is not None and check.is_judged
        return is_judged and self.settings.mode == "both" and self.meters.backend() is not None


def _show_message_alone(report: pytest.TestReport) -> None:
    # Where the verdict is the failure, pytest would add that every frame is hidden.
    traceback_shown = getattr(report.longrepr, "reprtraceback", None)
    if traceback_shown is not None:
        traceback_shown.extraline = None
