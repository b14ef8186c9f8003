"""Chunks of segments, free lists of them, and the sizes that requests are rounded to.

c10/cuda/CUDACachingAllocator.cpp calls a chunk a block; here a block is what a tensor asked for.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field

MIN_CHUNK_BYTES = 512
SMALL_BYTES = 2**20
SMALL_SEGMENT_BYTES = 2 * 2**20
MIN_OWN_SEGMENT_BYTES = 10 * 2**20
OWN_SEGMENT_STEP_BYTES = 2 * 2**20


@dataclass(slots=True, eq=False)
class Reservation:
    """Addresses that an expandable segment may grow into, by `granule_bytes` at a time."""

    address: int
    granule_bytes: int


@dataclass(slots=True, eq=False)
class Chunk:
    """A stretch of a segment; neighbours of the same segment are linked.

    `rank` decides among free chunks of one size before the address does. A chunk that another
    stream may still read when it is freed `is_pending`; an expandable segment has chunks that are
    not mapped, which hold no memory.
    """

    address: int
    size_bytes: int
    pool: Pool
    rank: int
    requested_bytes: int = 0
    is_used: bool = False
    is_pending: bool = False
    is_mapped: bool = True
    reservation: Reservation | None = None
    before: Chunk | None = None
    after: Chunk | None = None
    searches_before: int = 0  # when it became free; its age, for garbage collection

    @property
    def is_split(self) -> bool:
        """True where the segment has other chunks too."""
        return self.before is not None or self.after is not None

    @property
    def is_idle(self) -> bool:
        """Neither used nor waited for, mapped or not."""
        return not self.is_used and not self.is_pending

    @property
    def can_merge(self) -> bool:
        """True for a free chunk."""
        return not self.is_used and not self.is_pending and self.is_mapped

    def cut(self, size_bytes: int, rank: int) -> Chunk:
        """Shorten this chunk; what is left of it is a new one after it."""
        rest = Chunk(self.address + size_bytes, self.size_bytes - size_bytes, self.pool, rank)
        rest.reservation = self.reservation
        rest.before, rest.after = self, self.after
        if rest.after is not None:
            rest.after.before = rest
        self.after = rest
        self.size_bytes = size_bytes
        return rest

    def absorb(self, neighbour: Chunk) -> None:
        """Take a neighbour in."""
        if neighbour is self.before:
            self.address = neighbour.address
            self.before = neighbour.before
            if self.before is not None:
                self.before.after = self
        else:
            self.after = neighbour.after
            if self.after is not None:
                self.after.before = self
        self.size_bytes += neighbour.size_bytes


Entry = tuple[int, int, int, Chunk]


@dataclass(slots=True, eq=False)
class Clock:
    """Searches for a free chunk, by requests of one kind on all streams; chunks age by them."""

    searches: int = 0


@dataclass(slots=True, eq=False)
class Pool:
    """Free chunks of small or of large requests of one stream, by size, rank and address."""

    is_small: bool
    clock: Clock
    free: list[Entry] = field(default_factory=list)
    unmapped: list[tuple[int, Chunk]] = field(default_factory=list)

    def put(self, chunk: Chunk) -> None:
        """The chunk is free."""
        chunk.searches_before = self.clock.searches
        insort(self.free, (chunk.size_bytes, chunk.rank, chunk.address, chunk))

    def remove(self, chunk: Chunk) -> None:
        """The chunk is no longer among the free ones."""
        del self.free[bisect_left(self.free, (chunk.size_bytes, chunk.rank, chunk.address))]

    def first_of(self, size_bytes: int) -> int:
        """Position of the smallest free chunk that is large enough; the length if there is none."""
        return bisect_left(self.free, (size_bytes,))

    def put_unmapped(self, chunk: Chunk) -> None:
        """The chunk holds no memory any longer."""
        insort(self.unmapped, (chunk.address, chunk))

    def remove_unmapped(self, chunk: Chunk) -> None:
        """The chunk is mapped, or part of another one that is not."""
        del self.unmapped[bisect_left(self.unmapped, (chunk.address,))]


def round_up(size_bytes: int, step_bytes: int) -> int:
    """The next multiple of a step."""
    return -(-size_bytes // step_bytes) * step_bytes


def chunk_size(requested_bytes: int, divisions: tuple[int, ...] = ()) -> int:
    """Bytes that a request is rounded to; `divisions` are those of AllocatorSettings."""
    if divisions and requested_bytes > MIN_CHUNK_BYTES:
        at = min(max(requested_bytes.bit_length() - 1 - 20, 0), len(divisions) - 1)
        parts = divisions[at]
        if parts > 1 and requested_bytes > MIN_CHUNK_BYTES * parts:
            return _next_division(requested_bytes, parts)
    return round_up(max(requested_bytes, MIN_CHUNK_BYTES), MIN_CHUNK_BYTES)


def _next_division(size_bytes: int, parts: int) -> int:
    """The next of `parts` equal steps between two powers of two."""
    floor = 1 << (size_bytes.bit_length() - 1)
    if size_bytes == floor:
        return size_bytes
    return round_up(size_bytes, max(floor // parts, 1))


def segment_size(size_bytes: int, large_segment_bytes: int) -> int:
    """Bytes of the segment that is obtained for a request of this rounded size."""
    if size_bytes <= SMALL_BYTES:
        return SMALL_SEGMENT_BYTES
    if size_bytes < MIN_OWN_SEGMENT_BYTES:
        return large_segment_bytes
    return round_up(size_bytes, OWN_SEGMENT_STEP_BYTES)
