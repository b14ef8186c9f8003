"""A model of PyTorch's caching allocator with its default settings, on one stream.

c10/cuda/CUDACachingAllocator.cpp: requests are rounded to 512 bytes; small ones (up to 1 MiB) are
carved from segments of 2 MiB, larger ones from segments of 20 MiB or of their own size; the best
fitting free chunk is taken and split, and freed chunks merge with free neighbours. A large chunk is
split only if more than 1 MiB remains, so it may hold up to that much more than was asked for, and
`allocated` counts the whole of it. Equal chunks are taken in the order of their segments' making,
as torch does from 2.13 on.

Not modelled: settings other than the default, the card's capacity, several streams.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field

MIN_BLOCK_BYTES = 512
SMALL_BYTES = 2**20
SMALL_SEGMENT_BYTES = 2 * 2**20
MIN_OWN_SEGMENT_BYTES = 10 * 2**20
LARGE_SEGMENT_BYTES = 20 * 2**20
OWN_SEGMENT_STEP_BYTES = 2 * 2**20


@dataclass(slots=True, eq=False)
class Chunk:
    """A stretch of a segment, in use or free; neighbours of the same segment are linked."""

    address: int
    size_bytes: int
    pool: Pool
    is_free: bool = False
    before: Chunk | None = None
    after: Chunk | None = None


@dataclass(slots=True, eq=False)
class Pool:
    """Free chunks of small or of large requests, ordered by size, then by address."""

    is_small: bool
    free: list[tuple[int, int]] = field(default_factory=list)
    chunks: dict[int, Chunk] = field(default_factory=dict)

    def put(self, chunk: Chunk) -> None:
        """The chunk is free."""
        chunk.is_free = True
        self.chunks[chunk.address] = chunk
        insort(self.free, (chunk.size_bytes, chunk.address))

    def remove(self, chunk: Chunk) -> None:
        """The chunk is no longer among the free ones."""
        chunk.is_free = False
        del self.free[bisect_left(self.free, (chunk.size_bytes, chunk.address))]
        del self.chunks[chunk.address]

    def best_fit(self, size_bytes: int) -> Chunk | None:
        """The smallest free chunk that is large enough."""
        at = bisect_left(self.free, (size_bytes, -1))
        return self.chunks[self.free[at][1]] if at < len(self.free) else None


class Allocator:
    """Segments, and the chunks they are cut into; `reserved_bytes` is what the segments hold."""

    def __init__(self) -> None:
        self.reserved_bytes = 0
        self._pools = {True: Pool(is_small=True), False: Pool(is_small=False)}
        self._next_address = 0

    def allocate(self, requested_bytes: int) -> Chunk:
        """The chunk that a request of more than 0 bytes gets."""
        size_bytes = round_up(requested_bytes, MIN_BLOCK_BYTES)
        pool = self._pools[size_bytes <= SMALL_BYTES]
        chunk = pool.best_fit(size_bytes)
        if chunk is None:
            chunk = self._new_segment(size_bytes, pool)
        else:
            pool.remove(chunk)
        _split(chunk, size_bytes)
        return chunk

    def free(self, chunk: Chunk) -> None:
        """Give a chunk back; it merges with free neighbours."""
        pool = chunk.pool
        for neighbour in (chunk.before, chunk.after):
            if neighbour is not None and neighbour.is_free:
                pool.remove(neighbour)
                _merge(chunk, neighbour)
        pool.put(chunk)

    def empty_cache(self) -> None:
        """Release the segments that are free as a whole, as torch.cuda.empty_cache does."""
        for pool in self._pools.values():
            whole = [c for c in pool.chunks.values() if c.before is None and c.after is None]
            for chunk in whole:
                pool.remove(chunk)
                self.reserved_bytes -= chunk.size_bytes

    def _new_segment(self, size_bytes: int, pool: Pool) -> Chunk:
        segment_bytes = segment_size(size_bytes)
        chunk = Chunk(self._next_address, segment_bytes, pool)
        self._next_address += segment_bytes
        self.reserved_bytes += segment_bytes
        return chunk


def round_up(size_bytes: int, step_bytes: int) -> int:
    """The next multiple of a step."""
    return -(-size_bytes // step_bytes) * step_bytes


def segment_size(size_bytes: int) -> int:
    """Bytes of the segment that is obtained for a request of this rounded size."""
    if size_bytes <= SMALL_BYTES:
        return SMALL_SEGMENT_BYTES
    if size_bytes < MIN_OWN_SEGMENT_BYTES:
        return LARGE_SEGMENT_BYTES
    return round_up(size_bytes, OWN_SEGMENT_STEP_BYTES)


def _split(chunk: Chunk, size_bytes: int) -> None:
    rest_bytes = chunk.size_bytes - size_bytes
    pool = chunk.pool
    if rest_bytes < MIN_BLOCK_BYTES or (not pool.is_small and rest_bytes <= SMALL_BYTES):
        return
    rest = Chunk(chunk.address + size_bytes, rest_bytes, pool, before=chunk, after=chunk.after)
    if rest.after is not None:
        rest.after.before = rest
    chunk.after = rest
    chunk.size_bytes = size_bytes
    pool.put(rest)


def _merge(chunk: Chunk, neighbour: Chunk) -> None:
    """Let `chunk` take a free neighbour in."""
    if neighbour is chunk.before:
        chunk.address = neighbour.address
        chunk.before = neighbour.before
        if chunk.before is not None:
            chunk.before.after = chunk
    else:
        chunk.after = neighbour.after
        if chunk.after is not None:
            chunk.after.before = chunk
    chunk.size_bytes += neighbour.size_bytes
