"""`--memreq=both`: a test is simulated, from its setup to its teardown, and then measured."""

from __future__ import annotations

import pytest
from _pytest.runner import runtestprotocol

from pytest_memreq.plugin.course import COURSE, Course
from pytest_memreq.requirement import Peak
from pytest_memreq.results import Simulated

# None as long as it is under way, and where nothing was found out.
SIMULATED = pytest.StashKey[Simulated | None]()
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
    item.stash[SIMULATED] = _said(course)
    if course is not None:
        del item.stash[COURSE]  # the measured run has one of its own


def is_rehearsal(item: pytest.Item) -> bool:
    """True while the test runs on the pretended card in order to be measured afterwards."""
    return item.stash.get(_UNDER_WAY, False)


def _said(course: Course | None) -> Simulated | None:
    if course is None or course.meter is None or course.verdict is None:
        return None
    is_whole = course.verdict.word in ("within", "over")
    return Simulated(
        gpu=course.environment().gpu or "",
        peak=Peak() if course.finding is None else course.finding.peak,
        reason="" if is_whole else course.verdict.reason,
    )
