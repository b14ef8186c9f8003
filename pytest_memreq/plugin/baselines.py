"""The baseline of a run: read once, asked for each test, and written by whoever reports."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pytest_memreq.errors import MemreqError
from pytest_memreq.gate.baseline import Baseline, Missing, device_class
from pytest_memreq.gate.baseline_update import CI_VARIABLE, WRITES, Which, check_may_update
from pytest_memreq.gate.comparison import Comparison, compare
from pytest_memreq.gate.tolerance import NO_TOLERANCE, Tolerance, tolerance_for
from pytest_memreq.gate.verdict import Verdict
from pytest_memreq.plugin.config import Settings
from pytest_memreq.reports.reading import read_baseline
from pytest_memreq.requirement import Finding
from pytest_memreq.results import Environment

DEFAULT = "memreq-baseline.json"
RANK_VARIABLE = "RANK"  # torchrun's


@dataclass(frozen=True, slots=True, kw_only=True)
class Baselines:
    """What tests needed before, and what a run does with it: `which` of its tests it writes."""

    path: Path
    baseline: Baseline
    settings: Settings
    missing: Missing
    which: Which | None = None

    def knows(self, nodeid: str) -> bool:
        """True for a test that has an entry, whatever it is of."""
        return bool(self.baseline.of_test(nodeid))

    def compare(
        self, nodeid: str, environment: Environment, finding: Finding, marker: Tolerance | None
    ) -> Comparison:
        """A test beside its entry. One that this run writes passes, and says so."""
        found = compare(
            self.baseline,
            nodeid,
            device_class(
                mode=environment.mode or "",
                gpu=environment.gpu,
                torch=environment.torch,
                allocator=environment.allocator,
                world_size=environment.world_size,
            ),
            finding.peak,
            said=self._said(nodeid, marker),
            missing="record" if self.which is not None else self.missing,
            reasons=dict(finding.unknown),
        )
        is_written = self.which is not None and found.before.verdict in WRITES[self.which]
        if not is_written or found.verdict.word not in ("regressed", "improved"):
            return found
        reason = found.verdict.reason.partition("; --memreq-update")[0]
        verdict = Verdict(word="within", reason=f"{reason}; now recorded")
        return replace(found, verdict=verdict, fails_improved=False)

    def _said(self, nodeid: str, marker: Tolerance | None) -> Tolerance:
        return tolerance_for(
            nodeid,
            marker=marker or NO_TOLERANCE,
            globs=self.settings.tolerances,
            default=self.settings.tolerance,
            built_in=NO_TOLERANCE,
        )


def baselines_of(config: pytest.Config, settings: Settings) -> Baselines | None:
    """Those of a run, None where there is no file and none is to be written.

    Raises MemreqError for a file that is malformed, or named and not there, and on a CI server for
    an update that was not forced.
    """
    if settings.update is not None:
        check_may_update(os.environ, is_forced=settings.update_in_ci)
    path = config.rootpath / (settings.baseline or DEFAULT)
    baseline = read_baseline(path)
    which = _which(settings)
    if baseline is None and which is None:
        if settings.baseline is not None:
            raise MemreqError(f"{path}: is not there; --memreq-update new makes it")
        return None
    return Baselines(
        path=path,
        baseline=baseline or Baseline(),
        settings=settings,
        # On a CI server nobody would commit what was recorded.
        missing="fail" if settings.baseline_missing == "record" else settings.baseline_missing,
        which=which,
    )


def is_writer() -> bool:
    """True for the process that writes files: of several ranks, the first."""
    return os.environ.get(RANK_VARIABLE, "0") == "0"


def _which(settings: Settings) -> Which | None:
    if settings.update is not None:
        return settings.update
    is_on_server = bool(os.environ.get(CI_VARIABLE)) and not settings.update_in_ci
    return "new" if settings.baseline_missing == "record" and not is_on_server else None
