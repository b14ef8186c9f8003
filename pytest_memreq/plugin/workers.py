"""What only the controller of workers can tell: which died, and the same test on several."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest

from pytest_memreq.plugin.cards import CAN_LOCK, INPUT, input_for, seen_cards
from pytest_memreq.plugin.config import Settings, spreads_cards
from pytest_memreq.plugin.covering import OUTPUT
from pytest_memreq.plugin.reporting import Reporting
from pytest_memreq.plugin.wire import attach, detach
from pytest_memreq.reports.gathering import Judged
from pytest_memreq.reports.worst import weight
from pytest_memreq.requirement import Peak
from pytest_memreq.results import Environment, TestResult

OF_A_CRASH = "???"  # the phase that pytest-xdist gives its report of a test whose worker died
CRASHED = "the worker that ran it died"

Brought = tuple[TestResult, Environment]


class WorkerController(Protocol):
    """What pytest-xdist starts a worker by."""

    workerinput: dict[str, Any]


class Workers:
    """Hears the reports of pytest-xdist's workers before `Reporting` does."""

    def __init__(self, config: pytest.Config, settings: Settings, reporting: Reporting) -> None:
        self._reporting = reporting
        self._is_packed = CAN_LOCK and settings.mode not in ("off", "simulate")
        self._is_spread = spreads_cards(config, settings)
        self._seen = seen_cards(os.environ)
        self._directory: str | None = None
        self._runs_each = config.getoption("dist", "no") == "each"
        self._by_worker: dict[str, dict[str, Brought]] = {}
        self._crashed: dict[str, None] = {}
        self._unchecked: set[str] = set()

    def pytest_report_header(self) -> str | None:
        """That tests do not see all cards is to surprise nobody."""
        count = len(self._seen.names)
        if not self._is_packed or not self._is_spread or count < 2:
            return None
        return f"memreq: of {count} cards each of several workers sees one (--memreq-cards=spread)"

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: WorkerController) -> None:
        """Where it finds out what the others hold of the cards."""
        if self._is_packed and node.workerinput["workercount"] > 1:
            self._directory = self._directory or tempfile.mkdtemp(prefix="memreq-")
            node.workerinput[INPUT] = input_for(Path(self._directory), self._seen)

    def pytest_unconfigure(self) -> None:
        """Workers have ended."""
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Where each worker runs every test, the worst of its results counts."""
        if report.when == OF_A_CRASH:
            self._crashed[report.nodeid] = None
            return
        if report.when == "setup":
            self._crashed.pop(report.nodeid, None)  # it was run again elsewhere
        brought = detach(report) if self._runs_each else None
        if brought is not None:
            of_workers = self._by_worker.setdefault(report.nodeid, {})
            of_workers[getattr(report, "worker_id", "")] = brought
            attach(report, *max(of_workers.values(), key=lambda each: weight(each[0])))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object) -> None:
        """A worker that came to its end says which tests are none of ours."""
        output = getattr(node, "workeroutput", {})
        self._unchecked.update(output.get(OUTPUT, {}).get("unchecked", ()))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """A test whose worker died has no figures, and is no less checked for that."""
        known = {test.nodeid: test for test in self._reporting.results().tests}
        for nodeid in self._crashed:
            if nodeid not in self._unchecked:
                died = _died(nodeid, known.get(nodeid))
                self._reporting.take(Judged(result=died, environment=Environment()))


def _died(nodeid: str, before: TestResult | None) -> TestResult:
    result = before or TestResult(
        nodeid=nodeid, mode=None, verdict="error", reason=CRASHED, peak=Peak(), budget={}
    )
    return replace(result, verdict="error", reason=CRASHED, outcome="failed")
