"""`--memreq=both`: a test is simulated, from its setup to its teardown, and then measured."""

from __future__ import annotations

import pytest
from _pytest.runner import runtestprotocol

from pytest_memreq.gate.standing import what_grew
from pytest_memreq.gate.verdict import Verdict
from pytest_memreq.plugin.course import COURSE, Course, Rehearsed
from pytest_memreq.plugin.resulting import REPORTED_SITES
from pytest_memreq.requirement import Finding, Peak
from pytest_memreq.results import Simulated
from pytest_memreq.timeline import REPORTED_POINTS, thin_out

# None as long as it is under way, and where nothing was found out.
REHEARSED = pytest.StashKey[Rehearsed | None]()
NOT_JUDGED = "its simulation is not in the baseline: only what was measured is held against it"
_UNDER_WAY = pytest.StashKey[bool]()


def rehearse(item: pytest.Item) -> None:
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
    item.stash[REHEARSED] = None if course is None else _rehearsed(course)
    if course is not None:
        del item.stash[COURSE]  # the measured run has one of its own


def is_rehearsal(item: pytest.Item) -> bool:
    """True while the test runs on the pretended card in order to be measured afterwards."""
    return item.stash.get(_UNDER_WAY, False)


def _rehearsed(course: Course) -> Rehearsed | None:
    finding, verdict = course.finding, course.verdict
    if course.meter is None or verdict is None:
        return None
    if finding is None or not course.came_through:
        peak = Peak() if finding is None else finding.peak
        gpu = course.environment().gpu or ""
        said = Simulated(gpu=gpu, peak=peak, reason=verdict.reason)
        return Rehearsed(said=said, verdict=_of_cut_short(course, verdict))
    return _judged(course, _said(course, finding))


def _said(course: Course, finding: Finding) -> Simulated:
    return Simulated(
        gpu=course.environment().gpu or "",
        peak=finding.peak,
        breakdown=finding.breakdown,
        sites=finding.sites[:REPORTED_SITES],
        timeline=thin_out(finding.timeline, REPORTED_POINTS),
        baseline=None if course.standing is None else course.standing.before,
        grew=what_grew(course.standing, finding),
    )


def _of_cut_short(course: Course, verdict: Verdict) -> Verdict | None:
    """A simulation that has an entry is missed; one that skips itself is not."""
    baselines = course.baselines
    if baselines is None or verdict.cause == "skipped":
        return None
    if not baselines.has(course.nodeid, course.environment()):
        return None
    return Verdict(word="unchecked", reason=verdict.reason)


def _judged(course: Course, said: Simulated) -> Rehearsed:
    standing = course.standing
    if standing is None:
        return Rehearsed(said=said)
    if standing.match is None:
        is_passed_over = standing.verdict.word == "unchecked"
        return Rehearsed(said=said, notes=(NOT_JUDGED,) if is_passed_over else ())
    is_as_before = standing.before.verdict == "within"
    return Rehearsed(
        said=said,
        verdict=None if is_as_before else standing.verdict,
        fails_improved=standing.fails_improved,
    )
