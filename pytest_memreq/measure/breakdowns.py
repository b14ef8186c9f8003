"""From blocks with their places and labels to what a reader sees of a peak: pure functions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_memreq.measure.phases import Place
from pytest_memreq.measure.traces import Block
from pytest_memreq.requirement import WORDS, Breakdown, Site

# A block that is several of these is the first: a weight is no input where it is handed over.
RANKS = ("parameters", "gradients", "optimizer_states", "buffers", "inputs", "workspaces")
NOWHERE = Place()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What the memory at `address` was when the clock read `moment`."""

    address: int
    moment: int
    category: str
    module: str | None = None
    shape: tuple[int, ...] | None = None
    dtype: str | None = None


def marks_of(blocks: Collection[Block], marks: Iterable[Mark]) -> dict[Block, Mark]:
    """The mark of each block that has one: made while it was alive, the first of `RANKS`."""
    addresses = {block.address for block in blocks}
    asked = [mark for mark in marks if mark.address in addresses]
    at: dict[int, list[Mark]] = defaultdict(list)
    for mark in sorted(asked, key=lambda mark: (RANKS.index(mark.category), mark.module is None)):
        at[mark.address].append(mark)
    found: dict[Block, Mark] = {}
    for block in blocks:
        mine = (mark for mark in at[block.address] if block.is_live(mark.moment))
        if (first := next(mine, None)) is not None:
            found[block] = first
    return found


def category_of(block: Block, mark: Mark | None, place: Place) -> str:
    """One of the breakdown's words.

    What was marked keeps its word. What dies before the phase ends that it was born in is a
    temporary. What a root module's forward made with autograd on and left for later is an
    activation. All else, such as a loss that is computed outside of modules, is `other`.
    """
    if mark is not None:
        return mark.category
    if place.phase is None:
        return "other"
    if block.died is not None and block.died <= place.phase.ended:
        return "temporaries"
    return "activations" if place.phase.is_recorded else "other"


def sites_of(
    blocks: Iterable[Block], marks: Mapping[Block, Mark], places: Mapping[Block, Place]
) -> tuple[Site, ...]:
    """Blocks grouped by all that a reader sees of them, the largest group first."""
    groups: dict[Site, list[int]] = defaultdict(list)
    for block in blocks:
        site = _site(block, marks.get(block), places.get(block, NOWHERE))
        groups[site].append(block.block_bytes)
    sites = [replace(site, bytes=sum(sizes), count=len(sizes)) for site, sizes in groups.items()]
    return tuple(sorted(sites, key=lambda site: -site.bytes))


def break_down(sites: Sequence[Site]) -> Breakdown:
    """Bytes by category; a word without a block is 0, for it was looked for."""
    totals = dict.fromkeys((word for word in WORDS if word != "context"), 0)
    for site in sites:
        totals[site.category] += site.bytes
    return Breakdown(**{f"{word}_bytes": total for word, total in totals.items()})


def _site(block: Block, mark: Mark | None, place: Place) -> Site:
    return Site(
        bytes=0,
        category=category_of(block, mark, place),
        module=(mark.module if mark else place.module) or None,
        source=place.source,
        shape=mark.shape if mark else None,
        dtype=mark.dtype if mark else None,
    )
