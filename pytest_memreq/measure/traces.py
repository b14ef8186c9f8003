"""From a trace of allocations and frees to the life of each block, and to the peak.

Time is a clock of operations: how many allocations and frees the allocator had counted. What is
noted beside the trace, with the clock's reading, so finds the block that was alive then, though
the address was used before and is used again later.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, TypedDict

ALLOC, FREE = "alloc", "free_requested"
IN_USE = "active_allocated"
GRAIN_BYTES = 512  # kMinBlockSize of c10/cuda/CUDACachingAllocator.cpp


class Frame(TypedDict):
    """One line of a stack, as torch's memory history has it."""

    filename: str
    line: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block:
    """A block from the clock's reading `born` until just before `died`; None is "never".

    `frames` are the stack that allocated it, innermost first, `freed_by` the one that freed it;
    None is "not known".
    """

    address: int
    block_bytes: int
    born: int
    died: int | None = None
    frames: Sequence[Frame] | None = None
    freed_by: Sequence[Frame] | None = None

    def is_live(self, moment: int) -> bool:
        """True if it is in use when the clock reads `moment`."""
        return self.born <= moment and (self.died is None or moment < self.died)


def operations(trace: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events that change `allocated`: a block counts until its free is requested."""
    return [event for event in trace if event["action"] in (ALLOC, FREE)]


def blocks_in_use(segments: Iterable[dict[str, Any]], index: int, moment: int) -> tuple[Block, ...]:
    """Those of one device in a snapshot that was taken at `moment`."""
    return tuple(
        Block(
            address=block["address"],
            block_bytes=block["size"],
            born=moment,
            frames=block.get("frames") or None,
        )
        for segment in segments
        if segment["device"] == index
        for block in segment["blocks"]
        if block["state"] == IN_USE
    )


def undone(
    events: Sequence[dict[str, Any]], final: Iterable[Block], began: int
) -> tuple[Block, ...]:
    """What was in use before `events`, going by what was in use after them."""
    first: dict[int, dict[str, Any]] = {}
    for event in events:
        first.setdefault(event["addr"], event)
    freed = [event for event in first.values() if event["action"] == FREE]
    gone = [replace(_born(event, began), frames=None) for event in freed]  # not its own stack
    return (*gone, *(replace(block, born=began) for block in final if block.address not in first))


def lives(
    start: Iterable[Block],
    events: Sequence[dict[str, Any]],
    final: Iterable[Block],
    ended: int,
) -> tuple[Block, ...]:
    """Every block that was ever in use, by birth.

    `start` are those before the events, `final` those after, when the clock reads `ended`. Events
    have the bytes that were asked for: sizes are rounded to 512, and taken from `start` and `final`
    where the block is there. What a block of more than 1 MiB may have kept beyond that is not
    known once it is dead: this is for explaining a peak, not for judging it.
    """
    live = {block.address: block for block in start}
    dead: list[Block] = []
    for moment, event in enumerate(events, ended - len(events) + 1):
        ending = live.pop(event["addr"], None)
        if ending is not None:
            freed_by = event.get("frames") if event["action"] == FREE else None
            dead.append(replace(ending, died=moment, freed_by=freed_by))
        if event["action"] == ALLOC:
            live[event["addr"]] = _born(event, moment)
    sizes = {block.address: block.block_bytes for block in final}
    alive = [replace(b, block_bytes=sizes.get(b.address, b.block_bytes)) for b in live.values()]
    return tuple(sorted((*dead, *alive), key=lambda block: block.born))


def without(blocks: Iterable[Block], addresses: Collection[int], began: int) -> tuple[Block, ...]:
    """Blocks less those that were at these addresses when it began."""
    return tuple(b for b in blocks if b.born > began or b.address not in addresses)


def peak_of(blocks: Iterable[Block], began: int) -> int:
    """The clock's reading when the sum of the blocks in use was first the largest."""
    return max(over_time(blocks, began), key=lambda point: point[1])[0]


def over_time(blocks: Iterable[Block], began: int) -> list[tuple[int, int]]:
    """(clock's reading, bytes in use from then on), from `began` to the last change."""
    changes: dict[int, int] = defaultdict(int, {began: 0})
    for block in blocks:
        changes[block.born] += block.block_bytes
        if block.died is not None:
            changes[block.died] -= block.block_bytes
    moments = sorted(changes)
    return list(zip(moments, accumulate(changes[moment] for moment in moments), strict=True))


def _born(event: dict[str, Any], moment: int) -> Block:
    return Block(
        address=event["addr"],
        block_bytes=max(1, -(-event["size"] // GRAIN_BYTES)) * GRAIN_BYTES,
        born=moment,
        frames=event.get("frames"),
    )
