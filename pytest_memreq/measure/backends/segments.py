"""What others hold, set aside: the free parts of its segments are filled, so nobody else uses them.

What a test allocates then goes to segments of its own, as it would if nothing else was there. Else
it would take what is free beside what others hold: `reserved` would lack that, and `allocated`
differ by what is too small to be split off.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import torch

from pytest_memreq.holdings import LiveBlock
from pytest_memreq.measure.backends import Aside, Segment
from pytest_memreq.measure.backends.generations import BlockKey, Generations

IN_USE = "active_allocated"
MIB = 2**20
ROUNDS = 4  # a filler may land elsewhere where sizes are equal; then the next round finds the rest

Raw = dict[str, Any]  # a segment as torch.cuda.memory_snapshot has it


class Fillers:
    """Blocks of one device that keep others from using what is free beside what is set aside."""

    def __init__(self, index: int, generations: Generations) -> None:
        self._index = index
        self._addresses: list[int] = []
        self._generations = generations

    def blocks_in(self, segments: Iterable[Raw]) -> Iterator[tuple[Raw, LiveBlock]]:
        """Blocks in use with their segments, but for the fillers."""
        ours = frozenset(self._addresses)
        for segment in segments:
            for block in segment["blocks"]:
                if block["state"] == IN_USE and block["address"] not in ours:
                    yield segment, self._live(block)

    def release(self) -> None:
        """Give them back."""
        while self._addresses:
            torch.cuda.caching_allocator_delete(self._addresses.pop())

    def set_aside(self, keys: Collection[Hashable]) -> Aside:
        """Fill the segments of which all blocks in use are among `keys`."""
        self.release()
        if not keys:
            return Aside()
        segments = _segments(self._index)
        found = list(self.blocks_in(segments))
        others = {id(segment) for segment, block in found if block.key in keys}
        own = {id(segment) for segment, block in found if block.key not in keys}
        chosen = [segment for segment in segments if id(segment) in others - own]
        is_filled = self._fill({segment["address"]: segment["total_size"] for segment in chosen})
        return Aside(
            fillers=tuple(self._live_fillers()),
            segments=tuple(self._described(chosen)),
            is_whole=is_filled and not others & own,
        )

    def _fill(self, spans: dict[int, int]) -> bool:
        """Fill what is free in these spans of addresses; False if something stays free."""
        elsewhere: list[int] = []
        try:
            with suppress(torch.OutOfMemoryError):
                for _ in range(ROUNDS):
                    sizes = sorted(_free_sizes(_segments(self._index), spans))
                    if not sizes:
                        break
                    self._fill_once(sizes, spans, elsewhere)
        finally:
            for address in elsewhere:
                torch.cuda.caching_allocator_delete(address)
            if elsewhere:
                torch.cuda.empty_cache()
        return not any(_free_sizes(_segments(self._index), spans))

    def _fill_once(self, sizes: Sequence[int], spans: dict[int, int], elsewhere: list[int]) -> None:
        for size_bytes in sizes:
            address = torch.cuda.caching_allocator_alloc(size_bytes, self._index)
            (self._addresses if _is_within(address, spans) else elsewhere).append(address)

    def _live_fillers(self) -> Iterator[LiveBlock]:
        ours = frozenset(self._addresses)
        for segment in _segments(self._index):
            for block in segment["blocks"]:
                if block["address"] in ours:
                    yield self._live(block)

    def _live(self, block: Raw) -> LiveBlock:
        address = block["address"]
        return LiveBlock(
            key=BlockKey(self._index, address, self._generations.of(address)),
            block_bytes=block["size"],
            requested_bytes=block["requested_size"],
            device=self._index,
        )

    def _described(self, chosen: Iterable[Raw]) -> Iterator[Segment]:
        for segment in chosen:
            keys = frozenset(block.key for _, block in self.blocks_in([segment]))
            yield Segment(bytes=segment["total_size"], keys=keys)


def _segments(index: int) -> list[Raw]:
    return [segment for segment in torch.cuda.memory_snapshot() if segment["device"] == index]


def _free_sizes(segments: Iterable[Raw], spans: dict[int, int]) -> Iterator[int]:
    """Requests that fill what is free: small segments give out at most 1 MiB at a time."""
    for segment in segments:
        if not _is_within(segment["address"], spans):
            continue
        most = MIB if segment["segment_type"] == "small" else segment["total_size"]
        for block in segment["blocks"]:
            if block["state"] != "inactive":
                continue
            whole, rest = divmod(block["size"], most)
            yield from [most] * whole
            if rest:
                yield rest


def _is_within(address: int, spans: dict[int, int]) -> bool:
    return any(start <= address < start + size for start, size in spans.items())
