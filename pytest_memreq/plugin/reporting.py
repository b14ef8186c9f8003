"""The controller's part: header, terminal section, files, and the last word on the exit status."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_memreq.errors import MemreqError
from pytest_memreq.plugin.border import Problems
from pytest_memreq.plugin.config import Settings, settings_file
from pytest_memreq.plugin.purpose import is_quiet, runs_tests
from pytest_memreq.plugin.wire import detach, leaked_bytes_of, refusal_of
from pytest_memreq.reports import terminal
from pytest_memreq.reports.files import write_reports
from pytest_memreq.results import Environment, Results, TestResult
from pytest_memreq.simulate.cards import DEFAULT_CARD

SHOWN_WITHOUT_REPORT = ("over", "regressed", "unchecked", "error")
MARKUP = {
    **dict.fromkeys(("over", "error", "regressed"), "red"),
    **dict.fromkeys(("unchecked", "improved"), "yellow"),
}


class Reporting:
    """Collects results from the reports of tests, wherever these ran."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self._config = config
        self._settings = settings
        self._tests: dict[str, TestResult] = {}
        self._environment = Environment()
        self.problems = Problems()
        self._session: pytest.Session | None = None
        self._refusal: str | None = None
        self._partly: dict[str, str] = {}  # tests of which a subtest did not come through

    def pytest_report_header(self) -> str:
        """One line: how tests are checked, and where that was set."""
        settings = self._settings
        card = settings.gpu or DEFAULT_CARD
        how = {
            "auto": f"measured on a device if there is one, else simulated on {card}",
            "measure": "measured",
            "simulate": f"simulated on {card}",
            "both": "simulated, and then measured",
            "off": "off",
        }[settings.mode]
        path = settings_file(self._config)
        where = f", settings in {path.name}" if path and settings != Settings() else ""
        writes = settings.report and runs_tests(self._config)
        files = f", report in {settings.report_dir}" if writes else ""
        return f"memreq: {how}{where}{files}"

    def pytest_sessionstart(self) -> None:
        """Say `incomplete` where an earlier run's report may lie."""
        if self._settings.report and runs_tests(self._config):
            try:
                self._write(Results(status="incomplete"))
            except MemreqError as error:
                raise pytest.UsageError(f"--memreq-report: {error}") from None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what a report brings; of a test that was run again, the last."""
        leaked_bytes = leaked_bytes_of(report)
        if leaked_bytes is not None and report.nodeid in self._tests:
            test = self._tests[report.nodeid]
            self._tests[report.nodeid] = replace(test, leaked_bytes=leaked_bytes)
        if type(report) is not pytest.TestReport and report.outcome != "passed":
            self._partly[report.nodeid] = f"a subtest {report.outcome}"
        brought = detach(report)
        if brought is None:
            return
        result, environment = _as_far_as_it_came(brought[0], self._partly), brought[1]
        # Markers name cards: the environment of the run is not that of every test.
        self._tests[result.nodeid] = replace(result, gpu=environment.gpu)
        if environment.mode is not None:
            self._environment = environment

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object) -> None:
        """Hear why a worker ran nothing."""
        self._refusal = self._refusal or refusal_of(node)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> object | None:
        """M for a test that failed because of its memory."""
        brought = detach(report) if report.when == "call" and report.failed else None
        if brought is None or brought[0].verdict not in ("over", "regressed"):
            return None
        return "failed", "M", ("MEMORY", {"red": True})

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the files; fail a run that has budgets and held nothing against them."""
        self._session = session
        if not self.problems.is_ours:
            return
        with self.problems.kept(self._settings.report_dir):
            self._finish(session)
        self.problems.fail(session)

    def _finish(self, session: pytest.Session) -> None:
        if self._refusal is not None:
            print(f"ERROR: {self._refusal}", file=sys.stderr)
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
        if not runs_tests(self._config) or self._refusal is not None:
            return
        if self._tests and not any(test.is_checked for test in self._tests.values()):
            count = len(self._tests)
            have = "1 test has" if count == 1 else f"{count} tests have"
            self.problems.add(f"{have} a budget and none could be checked")
        if self._settings.report:
            self._write(self.results())

    def _write(self, results: Results) -> None:
        """A file that cannot be made for a mistake of ours does not keep the others from it."""
        write_reports(self._directory(), results, self.problems.bugs_kept)

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
        for problem in problems:
            terminalreporter.write_line(problem, red=True)

    def _shown(self) -> Results:
        results = self.results()
        if self._settings.report and not is_quiet(self._config):
            return results
        tests = tuple(
            test
            for test in results.tests
            if test.verdict == "improved"
            or (test.verdict in SHOWN_WITHOUT_REPORT and test.outcome == "failed")
        )
        return Results(tests=tests, environment=results.environment)

    def results(self) -> Results:
        """What came so far, in the order of node ids."""
        tests = tuple(self._tests[nodeid] for nodeid in sorted(self._tests))
        return Results(tests=tests, environment=self._environment)

    def _directory(self) -> Path:
        return self._config.invocation_params.dir / self._settings.report_dir


def _as_far_as_it_came(result: TestResult, partly: dict[str, str]) -> TestResult:
    """Figures that look good are those of less work where a subtest was cut short."""
    if result.nodeid not in partly or result.verdict not in ("within", "improved"):
        return result
    return replace(result, verdict="error", reason=f"{partly[result.nodeid]}: less was run")
