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


def collect() -> None:
    """All of it."""
    gc.collect()


def collect_young() -> None:
    """What is cheap to find, where nothing is known to be held."""
    gc.collect(YOUNG)


@contextmanager
def imports_set_aside() -> Iterator[None]:
    """What is alive now is looked at no more within it: a whole collection is then quick.

    torch alone is a million objects, a tenth of a second each time. It is for when there are only
    modules: what is set aside is not collected. Who has set something aside already goes on so.
    """
    is_ours = gc.get_freeze_count() == 0
    if is_ours:
        gc.collect()
        gc.freeze()
    try:
        yield
    finally:
        if is_ours:
            gc.unfreeze()


def look_at_all() -> None:
    """Let `gc.get_referrers` and `gc.get_objects` see what was set aside."""
    gc.unfreeze()
