"""What a ledger says of a stretch of work, without what others hold: pure functions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass

from pytest_memreq.holdings import Held, LiveBlock
from pytest_memreq.requirement import Peak
from pytest_memreq.simulate.ledger import Block, Ledger
from pytest_memreq.simulate.summary import live_after, over_time, peak_of

NOBODY: frozenset[Hashable] = frozenset()


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


def read(ledger: Ledger, start: int, others: Collection[Hashable] = NOBODY) -> Reading:
    """From event `start` on; `others` are the numbers of blocks that do not count."""
    sizes = over_time(ledger, _counted(_block_bytes, others), start)
    _, at = peak_of(sizes)
    live = live_after(ledger, start + at)
    return Reading(
        peak=counted_peak(ledger, start, others),
        sizes=sizes,
        live=tuple(block for block in live if block.number not in others),
    )


def counted_peak(ledger: Ledger, start: int, others: Collection[Hashable] = NOBODY) -> Peak:
    """The peaks since event `start`.

    Segments of others that are set aside are taken off as a whole; of the rest of what others hold
    the blocks are, for as long as they live, since what is beside them can be used by everybody.
    """
    reserved = [ledger.opening_reserved_bytes, *ledger.reserved][start:]
    if others:
        segments = [s for s in ledger.apart.segments if s.keys & ledger.live.keys()]
        within = frozenset(key for segment in segments for key in segment.keys)
        apart = frozenset(others) - within
        theirs = over_time(ledger, lambda block: _bytes_if(block.number in apart, block), start)
        whole_bytes = sum(segment.bytes for segment in segments)
        reserved = [
            held - blocks - whole_bytes for held, blocks in zip(reserved, theirs, strict=True)
        ]
    return Peak(
        requested_bytes=max(over_time(ledger, _counted(_requested_bytes, others), start)),
        allocated_bytes=max(over_time(ledger, _counted(_block_bytes, others), start)),
        reserved_bytes=max(reserved),
    )


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
