"""Which tests there are, as far as this run collected: an entry of a test that is gone is stale."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

OUTPUT = "memreq_covered"


class Covering:
    """Notes the files that were collected whole, and the tests with a check in them."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._files: set[str] = set()
        self.nodeids: frozenset[str] = frozenset()

    @property
    def files(self) -> frozenset[str]:
        """Files of which every test was collected, as node ids begin with them."""
        # It leaves tests out while their files are collected.
        is_partial = self._config.getoption("lf", False)
        return frozenset() if is_partial else frozenset(self._files)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A module that could not be imported is not whole.

        Nor is one of which the command line names single tests: pytest reports none for it.
        """
        is_module = report.nodeid.endswith(".py")
        if is_module and report.outcome == "passed":
            self._files.add(report.nodeid)

    def note(self, nodeids: Iterable[str]) -> None:
        """The tests with a check, before any is deselected."""
        self.nodeids = frozenset(nodeids)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Tell the process that reports."""
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output[OUTPUT] = {"files": sorted(self.files), "nodeids": sorted(self.nodeids)}
