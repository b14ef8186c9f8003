"""The controller's part: header, terminal section, files, and the last word on the exit status."""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from _pytest.pathlib import bestrelpath

from pytest_memreq.errors import MemreqError
from pytest_memreq.plugin.baselines import Baselines
from pytest_memreq.plugin.border import Problems
from pytest_memreq.plugin.calibrating import CALIBRATION
from pytest_memreq.plugin.config import Settings, style_of
from pytest_memreq.plugin.header import how_checked
from pytest_memreq.plugin.journal import Journal
from pytest_memreq.plugin.places import settings_file
from pytest_memreq.plugin.purpose import is_quiet, runs_tests
from pytest_memreq.plugin.ranks import ALONE, Ranks
from pytest_memreq.plugin.wire import refusal_of
from pytest_memreq.reports import terminal
from pytest_memreq.reports.files import write_reports
from pytest_memreq.reports.gathering import Event, Finished, Gathering
from pytest_memreq.reports.ranks import RankPart, merge_ranks
from pytest_memreq.reports.rows import has_failed, needs_a_look
from pytest_memreq.reports.text import visible
from pytest_memreq.results import Results, RunStatus

SHOWN_WITHOUT_REPORT = ("over", "regressed", "unchecked", "error")
# After any other the session was broken off.
ENDINGS = (
    pytest.ExitCode.OK,
    pytest.ExitCode.TESTS_FAILED,
    pytest.ExitCode.NO_TESTS_COLLECTED,
)
MARKUP = {
    **dict.fromkeys(("over", "error", "regressed"), "red"),
    **dict.fromkeys(("unchecked", "improved"), "yellow"),
}


class Reporting:
    """Collects results from the reports of tests, wherever these ran.

    Of several ranks the first reports for all; the others leave it a journal and write no report.
    """

    def __init__(
        self,
        config: pytest.Config,
        settings: Settings,
        baselines: Baselines | None,
        ranks: Ranks = ALONE,
    ) -> None:
        self._config = config
        self._baselines = baselines
        self._settings = settings
        self._style = style_of(settings)
        self._gathering = Gathering()
        self._journal: Journal | None = None
        self._ranks = ranks
        self._others: tuple[RankPart, ...] = ()
        self.problems = Problems()
        self._session: pytest.Session | None = None
        self._refusal: str | None = None

    def pytest_report_header(self) -> str:
        """One line: how tests are checked, and where that was set."""
        settings = self._settings
        path = settings_file(self._config)
        where = f", settings in {path.name}" if path and settings != Settings() else ""
        writes = settings.report and runs_tests(self._config)
        files = f", report in {visible(settings.report_dir)}" if writes else ""
        told = f"{self._calibration_told()}{self._rank_told()}{where}{files}{self._baseline_told()}"
        return f"memreq: {how_checked(settings.mode, settings.gpu)}{told}"

    def _rank_told(self) -> str:
        ranks = self._ranks
        if ranks.world_size == 1:
            return ""
        reports = "" if ranks.is_writer else ", rank 0 reports"
        return f", rank {ranks.rank} of {ranks.world_size}{reports}"

    def _calibration_told(self) -> str:
        path, calibration = self._settings.calibration, self._config.stash[CALIBRATION]
        if path is None or calibration is None or self._settings.mode == "measure":
            return ""
        name = bestrelpath(self._config.invocation_params.dir, path)
        return visible(f", calibration {name} (of {calibration})")

    def _baseline_told(self) -> str:
        if self._settings.mode == "off":
            return ""
        if self._baselines is None:
            return ", no baseline"
        count = len(self._baselines.baseline.entries)
        name = bestrelpath(self._config.invocation_params.dir, self._baselines.path)
        return f", baseline {visible(name)} ({'1 entry' if count == 1 else f'{count} entries'})"

    def pytest_sessionstart(self) -> None:
        """Say `incomplete` where an earlier run's report may lie."""
        if self._settings.report and runs_tests(self._config):
            try:
                self._write(Results(status="incomplete"))
                self.begin_journal()
            except MemreqError as error:
                raise pytest.UsageError(visible(f"--memreq-report: {error}")) from None

    def begin_journal(self) -> None:
        """From here on all is written down. Raises MemreqError where that cannot be."""
        self._journal = Journal(self.directory, self._ranks)

    def give_up_journal(self) -> None:
        """Without a trace: there is nothing that it alone tells."""
        if self._journal is not None:
            self._journal.remove()
            self._journal = None

    @property
    def has_journal(self) -> bool:
        """True where not all that the journal tells is known to be told elsewhere."""
        return self._journal is not None

    def join(self, others: Sequence[RankPart]) -> None:
        """What the other ranks found out is reported too; each that is missing is a problem."""
        self._others = tuple(others)
        for each in self._others:
            if each.missing:
                self.problems.add(f"rank {each.rank} of {self._ranks.world_size}: {each.missing}")

    def take(self, event: Event) -> None:
        """Remember what happened, and write it down."""
        self._gathering.take(event)
        if self._journal is not None:
            self._journal.write(event)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object) -> None:
        """Hear why a worker ran nothing."""
        self._refusal = self._refusal or refusal_of(node)

    @pytest.hookimpl(wrapper=True, trylast=True)  # after all others, whatever they raise
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """Write the files; fail a run that has budgets and held nothing against them."""
        self._session = session
        try:
            return (yield)
        finally:
            if self.problems.is_ours:
                with self.problems.kept(self._settings.report_dir):
                    self._finish(session)
                self.problems.fail(session)

    def _finish(self, session: pytest.Session) -> None:
        if self._refusal is not None:
            print(f"ERROR: {self._refusal}", file=sys.stderr)
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
        if not runs_tests(self._config) or self._refusal is not None:
            return
        self.take(Finished(status=_status_of(session)))
        results = self.results()
        if self._settings.report:
            self._write_last(results)
        self._judge_others(results)
        if results.tests and not any(test.is_checked for test in results.tests):
            count = len(results.tests)
            have = "1 test has" if count == 1 else f"{count} tests have"
            self.problems.add(f"{have} a budget and none could be checked")

    def _judge_others(self, results: Results) -> None:
        """A test that failed on another rank alone fails the run here too."""
        own = {test.nodeid for test in self._gathering.results().tests if has_failed(test)}
        failed = [t for t in results.tests if has_failed(t) and t.nodeid not in own]
        if self._others and failed:
            count = "1 test" if len(failed) == 1 else f"{len(failed)} tests"
            self.problems.add(f"{count} failed on other ranks than this one")

    def _write(self, results: Results) -> None:
        """A file that cannot be made for a mistake of ours does not keep the others from it."""
        write_reports(self.directory, results, self._style, self.problems.bugs_kept)

    def _write_last(self, results: Results) -> None:
        """Without the journal, where the files say it all."""
        try:
            self._write(results)
        except MemreqError as error:
            self.problems.add(f"{error}; memreq render makes the reports from the journal")
        if self.problems.is_empty and not (self._journal is not None and self._journal.problem):
            self.give_up_journal()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The section on GPU memory: every test with --memreq-report, else what needs a look."""
        is_hidden = self._config.getoption("no_summary", False) or not runs_tests(self._config)
        if is_hidden or not self.problems.is_ours:
            return
        with self.problems.kept("the section on GPU memory"):
            self._summarize(terminalreporter)
        self.problems.fail(self._session)

    def _summarize(self, terminalreporter: pytest.TerminalReporter) -> None:
        results, problems = self._shown(), self.problems.untold()
        if not (results.tests or problems):
            return
        terminalreporter.write_sep("=", "GPU memory")
        for line in terminal.render(results, width=terminalreporter._tw.fullwidth):
            color = MARKUP.get(line.verdict or "")
            terminalreporter.write_line(line.text, **({color: True} if color else {}))
        if self._journal is not None and self._journal.problem:
            terminalreporter.write_line(visible(f"memreq: {self._journal.problem}"), yellow=True)
        for problem in problems:
            terminalreporter.write_line(visible(problem), red=True)

    def _shown(self) -> Results:
        results = self.results()
        if self._settings.report and not is_quiet(self._config):
            return results
        tests = tuple(
            test
            for test in results.tests
            if (test.verdict == "improved" and self._ranks.is_writer)
            or (test.verdict in SHOWN_WITHOUT_REPORT and test.outcome == "failed")
            or (test.verdict == "regressed" and needs_a_look(test))  # be it expected to fail
            or (test.simulated is not None and test.simulated.divergence)
        )
        return replace(results, tests=tests)

    def results(self) -> Results:
        """What came so far; `incomplete` until the run's end."""
        own = self._gathering.results()
        if not self._others:
            return own
        return merge_ranks([RankPart(rank=0, results=own), *self._others], self._ranks.world_size)

    @property
    def directory(self) -> Path:
        """Where the report's files go, and journals."""
        return self._config.invocation_params.dir / self._settings.report_dir


def _status_of(session: pytest.Session) -> RunStatus:
    """Complete where every test had its turn: not after an interrupt, nor after -x stopped it."""
    has_stopped = bool(session.shouldstop or session.shouldfail)
    is_over = session.exitstatus in ENDINGS and not has_stopped
    return "complete" if is_over else "incomplete"
