"""What a ledger says of a stretch of work, without what others hold: pure functions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass

from pytest_memreq.holdings import Held, LiveBlock
from pytest_memreq.requirement import Peak
from pytest_memreq.simulate.ledger import Block, Ledger
from pytest_memreq.simulate.summary import live_after, over_time, peak_of

NOBODY: frozenset[Hashable] = frozenset()

Gap = tuple[int, int]  # events after the first and up to the last are no part of the work


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Peaks since an event, allocated bytes after each one since, and what was live at the peak."""

    peak: Peak
    sizes: list[int]
    live: tuple[Block, ...]


def as_live(block: Block) -> LiveBlock:
    """A block as those see it who ask whose it is; its number is never used again."""
    return LiveBlock(
        key=block.number,
        block_bytes=block.block_bytes,
        requested_bytes=block.requested_bytes,
    )


def keys_of(held: Held) -> frozenset[Hashable]:
    """The numbers of the blocks that others left."""
    return frozenset(block.key for block in held.others_blocks)


def read(
    ledger: Ledger,
    start: int,
    others: Collection[Hashable] = NOBODY,
    gaps: Sequence[Gap] = (),
) -> Reading:
    """From event `start` on; `others` are the numbers of blocks that do not count."""
    sizes = _bridged(over_time(ledger, _counted(_block_bytes, others), start), start, gaps)
    _, at = peak_of(sizes)
    live = live_after(ledger, start + at)
    return Reading(
        peak=counted_peak(ledger, start, others, gaps),
        sizes=sizes,
        live=tuple(block for block in live if block.number not in others),
    )


def counted_peak(
    ledger: Ledger,
    start: int,
    others: Collection[Hashable] = NOBODY,
    gaps: Sequence[Gap] = (),
) -> Peak:
    """The peaks since event `start`.

    Segments of others that are set aside are taken off as a whole; of the rest of what others hold
    the blocks are, for as long as they live, since what is beside them can be used by everybody.
    """

    def most(sizes: list[int]) -> int:
        return max(_bridged(sizes, start, gaps))

    reserved = [ledger.opening_reserved_bytes, *ledger.reserved][start:]
    if others:
        whole_bytes, apart = _apart(ledger, others)
        theirs = over_time(ledger, lambda block: _bytes_if(block.number in apart, block), start)
        reserved = [
            held - blocks - whole_bytes for held, blocks in zip(reserved, theirs, strict=True)
        ]
    return Peak(
        requested_bytes=most(over_time(ledger, _counted(_requested_bytes, others), start)),
        allocated_bytes=most(over_time(ledger, _counted(_block_bytes, others), start)),
        reserved_bytes=most(reserved),
    )


def reserved_by(ledger: Ledger, others: Collection[Hashable]) -> int:
    """What others hold of the device now, as `counted_peak` takes it off `reserved`."""
    whole_bytes, apart = _apart(ledger, others)
    live = (ledger.live[number] for number in ledger.live.keys() & apart)
    return whole_bytes + sum(map(_block_bytes, live))


def _apart(ledger: Ledger, others: Collection[Hashable]) -> tuple[int, frozenset[Hashable]]:
    """Bytes of segments in which all is theirs, and the blocks of others that are elsewhere.

    A segment set aside with a fixture that the test asked for later is the test's own.
    """
    theirs = frozenset(others)
    segments = [
        each
        for each in ledger.apart.segments
        if each.keys <= theirs and each.keys & ledger.live.keys()
    ]
    within = frozenset(key for segment in segments for key in segment.keys)
    return sum(segment.bytes for segment in segments), theirs - within


def _bridged(sizes: list[int], start: int, gaps: Sequence[Gap]) -> list[int]:
    """Sizes since an event, as they were before each gap for as long as it lasts."""
    for first, last in gaps:
        if first >= start:
            width = max(0, last - first - 1)
            sizes[first + 1 - start : last - start] = [sizes[first - start]] * width
    return sizes


def _counted(
    size_of: Callable[[Block], int], others: Collection[Hashable]
) -> Callable[[Block], int]:
    if not others:
        return size_of
    return lambda block: 0 if block.number in others else size_of(block)


def _bytes_if(is_counted: bool, block: Block) -> int:
    return block.block_bytes if is_counted else 0


def _requested_bytes(block: Block) -> int:
    return block.requested_bytes


def _block_bytes(block: Block) -> int:
    return block.block_bytes
