"""Where segments come from: the driver, which hands out memory until the card is full."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pytest_memreq.simulate.allocator.chunks import OWN_SEGMENT_STEP_BYTES, Chunk, Pool, round_up
from pytest_memreq.simulate.allocator.settings import AllocatorSettings

# What the driver was asked for: (True for memory obtained, address, bytes).
DriverCall = tuple[bool, int, int]


def _growing() -> Callable[[int], int]:
    """Addresses that only grow; from 2.13 on torch makes no difference of them."""
    following = [0]

    def place(size_bytes: int) -> int:
        address = following[0]
        following[0] += round_up(size_bytes, OWN_SEGMENT_STEP_BYTES)
        return address

    return place


@dataclass(slots=True)
class Driver:
    """Memory of the card; `place` says at which address so many bytes are found."""

    settings: AllocatorSettings
    place: Callable[[int], int] = field(default_factory=_growing)
    reserved_bytes: int = 0
    peak_reserved_bytes: int = 0
    calls: list[DriverCall] = field(default_factory=list)

    def can_give(self, size_bytes: int) -> bool:
        """True unless the card is full."""
        card_bytes = self.settings.card_bytes
        taken_bytes = self.reserved_bytes + self.settings.context_bytes
        return card_bytes is None or taken_bytes + size_bytes <= card_bytes

    def give(self, address: int, size_bytes: int) -> None:
        """Memory at that address is the allocator's."""
        self.reserved_bytes += size_bytes
        self.peak_reserved_bytes = max(self.peak_reserved_bytes, self.reserved_bytes)
        self.calls.append((True, address, size_bytes))

    def take_back(self, address: int, size_bytes: int) -> None:
        """Memory at that address is the allocator's no longer."""
        self.reserved_bytes -= size_bytes
        self.calls.append((False, address, size_bytes))


@dataclass(slots=True)
class Ranks:
    """Ranks of new chunks, by what decides among equal ones in a version of torch."""

    settings: AllocatorSettings
    _last: int = -1

    def of_segment(self) -> int:
        """Of the one chunk that a new segment is."""
        return 0 if self.settings.tie == "address" else self._next()

    def of_part(self, whole: Chunk) -> int:
        """Of a chunk cut from another: 2.12 ranks by the making of each chunk's object."""
        return self._next() if self.settings.tie == "chunk" else whole.rank

    def _next(self) -> int:
        self._last += 1
        return self._last


@dataclass(slots=True)
class Segments:
    """Segments of fixed size, each obtained and released as a whole (cudaMalloc, cudaFree)."""

    driver: Driver
    ranks: Ranks

    def obtain(self, pool: Pool, size_bytes: int, segment_bytes: int) -> Chunk | None:  # noqa: ARG002 - ExpandableSegments needs it
        """A new segment, None if the card is full."""
        if not self.driver.can_give(segment_bytes):
            return None
        address = self.driver.place(segment_bytes)
        self.driver.give(address, segment_bytes)
        return Chunk(address, segment_bytes, pool, self.ranks.of_segment())

    def release(self, chunk: Chunk) -> None:
        """Give a free segment back."""
        chunk.pool.remove(chunk)
        self.driver.take_back(chunk.address, chunk.size_bytes)

    def release_idle(self, pool: Pool) -> None:
        """Give back all segments of the pool that are free as a whole."""
        for *_, chunk in tuple(pool.free):
            if not chunk.is_split:
                self.release(chunk)

    def choose(self, pool: Pool, at: int) -> int:  # noqa: ARG002 - ExpandableSegments needs it
        """Which free chunk to take of those from position `at` on: the best fit."""
        return at
