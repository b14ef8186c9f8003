"""Which tests there are, as far as this run collected: an entry of a test that is gone is stale."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from pytest_memreq.gate.baseline_update import file_of

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
        config = self._config
        parts = [file_of(argument) for argument in config.args if "::" in argument]
        # The first leaves tests out while files are collected, the second names no files.
        if config.getoption("lf", False) or (parts and config.getoption("pyargs", False)):
            return frozenset()
        partial = {(config.invocation_params.dir / part).resolve() for part in parts}
        return frozenset(f for f in self._files if (config.rootpath / f).resolve() not in partial)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A module that could not be imported is not whole."""
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
