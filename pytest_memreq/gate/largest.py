"""The largest things that were live at a peak, as a baseline keeps them: without lines of code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from pytest_memreq.requirement import Breakdown, Site

LISTED_THINGS = 20  # a line each in a file that people review


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """All that was live of one kind, as the code's owners know it: without lines, which move."""

    category: str
    module: str | None = None
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    bytes: int

    @property
    def order(self) -> tuple[Any, ...]:
        """What things are sorted by, so that one that grows stays in its line."""
        return self.category, *map(none_first, (self.module, self.shape, self.dtype))


@dataclass(frozen=True, slots=True, kw_only=True)
class Largest:
    """The largest things at the peak of allocated, and the bytes of all that is not among them.

    With a rest of 0 the list is whole; with one of None nobody knows how much is missing. What is
    not listed is at most the rest.
    """

    things: tuple[Thing, ...] = ()
    rest_bytes: int | None = None

    @property
    def is_whole(self) -> bool:
        """True where nothing but the things was live."""
        return self.rest_bytes == 0


NOTHING_LISTED = Largest()


def largest_of(sites: Iterable[Site], breakdown: Breakdown | None) -> Largest:
    """The largest of what was live at a peak; its whole is what the breakdown has of it."""
    sums: dict[Thing, int] = {}
    for site in sites:
        thing = Thing(
            category=site.category, module=site.module, shape=site.shape, dtype=site.dtype, bytes=0
        )
        sums[thing] = sums.get(thing, 0) + site.bytes
    things = [replace(thing, bytes=size) for thing, size in sums.items()]
    chosen = sorted(things, key=lambda thing: (-thing.bytes, thing.order))[:LISTED_THINGS]
    total_bytes = None if breakdown is None else breakdown.allocated_bytes
    rest_bytes = None if total_bytes is None else total_bytes - sum(t.bytes for t in chosen)
    return Largest(
        things=tuple(sorted(chosen, key=lambda thing: thing.order)),
        rest_bytes=None if rest_bytes is None or rest_bytes < 0 else rest_bytes,
    )


def none_first(value: Any) -> tuple[Any, ...]:
    """A key to sort by where values may be None."""
    return () if value is None else (value,)
