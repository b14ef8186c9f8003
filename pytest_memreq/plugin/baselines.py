"""The baseline of a run: read once, asked for each test, and written by whoever reports."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest

from pytest_memreq.choices import Missing, Which
from pytest_memreq.errors import MemreqError
from pytest_memreq.gate.baseline import Baseline
from pytest_memreq.gate.baseline_update import CI_VARIABLE, WRITES, check_may_update
from pytest_memreq.gate.standing import NOTHING_RECORDED, Recorded, Standing, standing_of
from pytest_memreq.gate.tolerance import NO_TOLERANCE, Tolerance, tolerance_for
from pytest_memreq.plugin.config import Settings
from pytest_memreq.plugin.places import BASELINE
from pytest_memreq.plugin.ranks import ALONE, Ranks, ranks_of
from pytest_memreq.reports.files import check_writable
from pytest_memreq.reports.reading import read_baseline
from pytest_memreq.requirement import Finding
from pytest_memreq.results import Environment

BY_THE_FIRST = "for the first rank to record"
OUTSIDE = (
    "lies outside of the rootdir, where node ids are not a test's own: it is neither held against "
    "the baseline nor recorded (give --rootdir, or --memreq-baseline-missing=ignore)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Baselines:
    """What tests needed before, and what a run does with it: `which` of its tests it writes.

    `was_there` is False where there was no file when the run began.
    """

    path: Path
    baseline: Baseline
    was_there: bool
    settings: Settings
    missing: Missing
    rootdir: Path
    which: Which | None = None
    ranks: Ranks = ALONE

    def knows(self, nodeid: str) -> bool:
        """True for a test that has an entry, whatever it is of."""
        return bool(self.baseline.of_test(nodeid))

    def has(self, nodeid: str, environment: Environment) -> bool:
        """True for a test with an entry that it is held against there."""
        return self.baseline.find(nodeid, environment.device_class()) is not None

    def why_not(self, item: pytest.Item) -> str:
        """Why a test can neither be held against it nor be recorded, "" if it can."""
        if self.which is None and self.missing == "ignore":
            return ""
        return OUTSIDE if is_outside(item.path, self.rootdir) else ""

    def standing_of(
        self, nodeid: str, environment: Environment, finding: Finding, marker: Tolerance | None
    ) -> Standing:
        """A test beside its entry. One that this run writes passes, and says so.

        Of several ranks only the one that needs most can say that all need less.
        """
        standing = standing_of(
            self.baseline,
            nodeid,
            environment.device_class(),
            finding.peak,
            said=self._said(nodeid, marker),
            missing=self.missing,
            reasons=dict(finding.unknown),
            recorded=self._recorded,
        )
        is_sure = self.ranks.world_size == 1
        return replace(standing, fails_improved=standing.fails_improved and is_sure)

    @property
    def _recorded(self) -> Recorded:
        if self.which is None:
            return NOTHING_RECORDED
        if self.ranks.is_writer:
            return Recorded(words=WRITES[self.which])
        return Recorded(words=WRITES[self.which], told=BY_THE_FIRST)

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

    Raises MemreqError for a file that is malformed, or named and not there, for one that is to be
    written and cannot be, and on a CI server for an update that was not forced.
    """
    if settings.update is not None:
        check_may_update(os.environ, is_forced=settings.update_in_ci)
    path = place_of(config, settings)
    baseline = read_baseline(path)
    which, ranks = _which(settings), ranks_of(os.environ)
    if which is not None and ranks.is_writer:
        check_writable(path)
    if baseline is None and which is None:
        if settings.baseline is not None:
            raise MemreqError(f"{path}: is not there; --memreq-update new makes it")
        return None
    return Baselines(
        path=path,
        baseline=baseline or Baseline(),
        was_there=baseline is not None,
        settings=settings,
        # On a CI server nobody would commit what was recorded.
        missing="fail" if settings.baseline_missing == "record" else settings.baseline_missing,
        rootdir=config.rootpath,
        which=which,
        ranks=ranks,
    )


def place_of(config: pytest.Config, settings: Settings) -> Path:
    """Where the baseline is: as it is named, else in the rootdir, where node ids begin."""
    return settings.baseline or config.rootpath / BASELINE


@cache  # for a file with a thousand tests it is the same
def is_outside(path: Path, rootdir: Path) -> bool:
    """True for a file whose tests have node ids that another file's may have as well."""
    return not path.is_relative_to(rootdir)


def _which(settings: Settings) -> Which | None:
    if settings.update is not None:
        return settings.update
    is_on_server = bool(os.environ.get(CI_VARIABLE)) and not settings.update_in_ci
    return "new" if settings.baseline_missing == "record" and not is_on_server else None
