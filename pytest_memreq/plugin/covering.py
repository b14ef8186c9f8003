"""Which tests there are, as far as this run collected: an entry of a test that is gone is stale."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from pytest_memreq.gate.baseline_update import file_of

OUTPUT = "memreq_covered"


class Covering:
    """Notes the files that were collected whole, the tests in them, and those without a check."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._files: set[str] = set()
        self._broken: set[str] = set()
        self._nodeids: set[str] = set()
        self.unchecked: frozenset[str] = frozenset()

    @property
    def nodeids(self) -> frozenset[str]:
        """The tests that were collected, whoever deselected them later."""
        return frozenset(self._nodeids)

    @property
    def files(self) -> frozenset[str]:
        """Files of which every test was collected, as node ids begin with them."""
        # It leaves tests out while their files are collected.
        is_partial = self._config.getoption("lf", False)
        return frozenset() if is_partial else frozenset(self._files - self._broken)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A module that could not be imported is not whole.

        Nor is one of which the command line names single tests: pytest reports none for it.
        """
        if report.outcome != "passed":  # a class in it, perhaps
            self._broken.add(file_of(report.nodeid))
        elif report.nodeid.endswith(".py"):
            self._files.add(report.nodeid)

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Before anybody may deselect it."""
        self._nodeids.add(item.nodeid)

    def note_unchecked(self, nodeids: Iterable[str]) -> None:
        """The tests of this run that nothing checks."""
        self.unchecked = frozenset(nodeids)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Tell the process that reports."""
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output[OUTPUT] = self.covered()

    def covered(self) -> dict[str, list[str]]:
        """All of it, in plain lists."""
        return {
            "files": sorted(self.files),
            "nodeids": sorted(self.nodeids),
            "unchecked": sorted(self.unchecked),
        }
