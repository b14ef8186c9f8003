"""What the controller hears of every test, in parts of their own: each call costs every test."""

from __future__ import annotations

import pytest

from pytest_memreq.plugin.reporting import Reporting
from pytest_memreq.plugin.wire import detach, events_of
from pytest_memreq.reports.gathering import Ended, Started

HEARING = "memreq-hearing"


class Hearing:
    """Takes what reports of tests bring; gone where no test of the process is checked."""

    def __init__(self, reporting: Reporting) -> None:
        self._reporting = reporting

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what a report brings, wherever its test ran."""
        for event in events_of(report):
            self._reporting.take(event)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> object | None:
        """M for a test that failed because of its memory."""
        brought = detach(report) if report.when == "call" and report.failed else None
        if brought is None or brought[0].verdict not in ("over", "regressed"):
            return None
        return "failed", "M", ("MEMORY", {"red": True})


class Watching:
    """Follows which tests are running, for the report of a run that ends while they do."""

    def __init__(self, reporting: Reporting) -> None:
        self._reporting = reporting

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A test begins, here or in a worker."""
        self._reporting.take(Started(nodeid=nodeid))

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """A test is over."""
        self._reporting.take(Ended(nodeid=nodeid))
