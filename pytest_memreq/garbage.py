"""Python's garbage, which holds tensors until it is collected.

When Python itself collects depends on counters, and on lists of objects that it keeps for use
again; only a whole collection sets both back. One before each call makes that moment the same
whatever ran before.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

YOUNG = 1  # the generations but the oldest
TESTS_TOGETHER = 32
MOST_LOOKS = 5


def collect() -> None:
    """All of it."""
    gc.collect()


def collect_young() -> None:
    """What is cheap to find, where nothing is known to be held."""
    gc.collect(YOUNG)


class Aside:
    """What is not looked at while a run goes on, so that a whole collection stays quick.

    torch alone is a million objects, a tenth of a second each time; and pytest keeps some dozen of
    every test that has run, so that ten thousand tests would take minutes to look through them.
    What is set aside is not collected: it is for when nothing that is alive is of interest, and
    `bring_back` finds out whether it was.
    """

    def __init__(self, *, is_ours: bool) -> None:
        self._is_ours = is_ours  # else somebody has set something aside, and goes on so
        self._has_more = False
        self._tests = self._brought_back = 0

    def add(self) -> None:
        """After a test that nothing on the device is left of: every so often, what is alive now."""
        self._tests += 1
        if self._is_ours and self._tests % TESTS_TOGETHER == 0:
            gc.collect()
            gc.freeze()
            self._has_more = True

    def bring_back(self) -> bool:
        """Whether a collection may now find what was set aside since the tests began.

        Who leaves something time and again does so by itself: there is an end to looking.
        """
        if not self._has_more or self._brought_back == MOST_LOOKS:
            return False
        self._brought_back += 1
        self._has_more = False
        gc.unfreeze()
        return True

    def go_on(self) -> None:
        """After a collection that looked at all there is."""
        gc.freeze()
        self._has_more = True


@contextmanager
def imports_set_aside() -> Iterator[Aside]:
    """What is alive now is set aside within it; it is for when there are only modules."""
    is_ours = gc.get_freeze_count() == 0
    if is_ours:
        gc.collect()
        gc.freeze()
    try:
        yield Aside(is_ours=is_ours)
    finally:
        if is_ours:
            gc.unfreeze()


def look_at_all() -> None:
    """Let `gc.get_referrers` and `gc.get_objects` see what was set aside."""
    gc.unfreeze()
