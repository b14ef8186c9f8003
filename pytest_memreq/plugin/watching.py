"""Which tests are running, for the report of a run that ends while they do."""

from __future__ import annotations

from pytest_memreq.plugin.reporting import Reporting
from pytest_memreq.reports.gathering import Ended, Started


class Watching:
    """Only there where a report is written: it costs every test two calls, checked or not."""

    def __init__(self, reporting: Reporting) -> None:
        self._reporting = reporting

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A test begins, here or in a worker."""
        self._reporting.take(Started(nodeid=nodeid))

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """A test is over."""
        self._reporting.take(Ended(nodeid=nodeid))
