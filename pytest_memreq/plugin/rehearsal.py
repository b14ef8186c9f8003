"""`--memreq=both`: a test is simulated, from its setup to its teardown, and then measured."""

from __future__ import annotations

import pytest
from _pytest.runner import runtestprotocol

from pytest_memreq.gate.comparison import what_grew
from pytest_memreq.plugin.baselines import Baselines
from pytest_memreq.plugin.course import COURSE, REPORTED_SITES, Course
from pytest_memreq.requirement import Peak
from pytest_memreq.results import Simulated
from pytest_memreq.timeline import REPORTED_POINTS, thin_out

# None as long as it is under way, and where nothing was found out.
SIMULATED = pytest.StashKey[Simulated | None]()
_UNDER_WAY = pytest.StashKey[bool]()


def rehearse(item: pytest.Item, baselines: Baselines | None) -> None:
    """Run the test on the pretended card without reporting it, and keep what it needed there.

    Fixtures of every scope are torn down after it: none of them passes to the measured run.
    """
    item.stash[_UNDER_WAY] = True
    try:
        # pytest's own loop over the phases of one test, as pytest-rerunfailures uses it.
        runtestprotocol(item, log=False, nextitem=None)
    finally:
        del item.stash[_UNDER_WAY]
    course = item.stash.get(COURSE, None)
    item.stash[SIMULATED] = _said(course, baselines)
    if course is not None:
        del item.stash[COURSE]  # the measured run has one of its own


def is_rehearsal(item: pytest.Item) -> bool:
    """True while the test runs on the pretended card in order to be measured afterwards."""
    return item.stash.get(_UNDER_WAY, False)


def _said(course: Course | None, baselines: Baselines | None) -> Simulated | None:
    if course is None or course.meter is None or course.verdict is None:
        return None
    environment, finding = course.environment(), course.finding
    if finding is None or course.verdict.word not in ("within", "over"):
        peak = Peak() if finding is None else finding.peak
        return Simulated(gpu=environment.gpu or "", peak=peak, reason=course.verdict.reason)
    comparison = None
    if baselines is not None:
        tolerance = course.check.budget.tolerance
        comparison = baselines.compare(course.nodeid, environment, finding, tolerance)
    return Simulated(
        gpu=environment.gpu or "",
        peak=finding.peak,
        breakdown=finding.breakdown,
        sites=finding.sites[:REPORTED_SITES],
        timeline=thin_out(finding.timeline, REPORTED_POINTS),
        baseline=None if comparison is None else comparison.before,
        grew=what_grew(comparison, finding),
    )
