"""A model of PyTorch's caching allocator (c10/cuda/CUDACachingAllocator.cpp, 2.11 to 2.15).

Requests are rounded, small ones (up to 1 MiB) are carved from segments of 2 MiB, larger ones from
segments of 20 MiB or of their own size; the best fitting free chunk is taken and split, and freed
chunks merge with free neighbours. A large chunk is split only if more than 1 MiB remains, so it may
hold up to that much more than was asked for, and `allocated` counts the whole of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pytest_memreq.simulate.allocator.chunks import (
    MIN_CHUNK_BYTES,
    SMALL_BYTES,
    Chunk,
    Clock,
    Pool,
    chunk_size,
    segment_size,
)
from pytest_memreq.simulate.allocator.expandable import ExpandableSegments
from pytest_memreq.simulate.allocator.memory import Driver, Ranks, Segments
from pytest_memreq.simulate.allocator.settings import AllocatorSettings

DEFAULT = AllocatorSettings()


class OutOfDeviceMemory(Exception):  # noqa: N818 - as torch calls it, without Error
    """The card has no room for a request, even after all caches were released."""

    def __init__(
        self, requested_bytes: int, *, allocated_bytes: int, reserved_bytes: int, card_bytes: int
    ) -> None:
        super().__init__(f"no room for {requested_bytes} bytes")
        self.requested_bytes = requested_bytes
        self.allocated_bytes = allocated_bytes
        self.reserved_bytes = reserved_bytes
        self.card_bytes = card_bytes


class Allocator:
    """Segments, the chunks they are cut into, and the statistics that torch keeps of them.

    `active_bytes` are those allocated and those freed that another stream may still read. With
    `are_events_ready` such chunks are free again at the next request, else only once they must be.
    """

    def __init__(self, settings: AllocatorSettings = DEFAULT, driver: Driver | None = None) -> None:
        self.settings = settings
        self.driver = driver or Driver(settings)
        self.are_events_ready = True
        self.allocated_bytes = self.active_bytes = self.requested_bytes = 0
        self.inactive_split_bytes = 0
        self.peak_allocated_bytes = self.peak_active_bytes = self.peak_requested_bytes = 0
        self.peak_inactive_split_bytes = 0
        self.retries = 0
        self.failures = 0
        self._ranks = Ranks(settings)
        source = ExpandableSegments if settings.expandable_segments else Segments
        self._segments: ExpandableSegments | Segments = source(self.driver, self._ranks)
        self._clocks = {True: Clock(), False: Clock()}
        self._pools: dict[tuple[bool, int], Pool] = {}
        self._pending: list[Chunk] = []
        self._limit_bytes = settings.limit_bytes
        self._collects = self._limit_bytes is not None and settings.garbage_collection_threshold > 0

    @property
    def reserved_bytes(self) -> int:
        """What the segments hold."""
        return self.driver.reserved_bytes

    @property
    def peak_reserved_bytes(self) -> int:
        """The most that the segments ever held."""
        return self.driver.peak_reserved_bytes

    def allocate(self, requested_bytes: int, stream: int = 0) -> Chunk:
        """The chunk that a request of more than 0 bytes gets; OutOfDeviceMemory if none is left."""
        if self._pending and self.are_events_ready:
            self.complete_events()
        size_bytes = chunk_size(requested_bytes, self.settings.roundup_divisions)
        pool = self._pool(size_bytes <= SMALL_BYTES, stream)
        chunk = self._find(pool, size_bytes)
        if chunk is None:
            chunk = self._obtain(pool, size_bytes)
        if chunk is None:
            raise OutOfDeviceMemory(
                requested_bytes,
                allocated_bytes=self.allocated_bytes,
                reserved_bytes=self.reserved_bytes,
                card_bytes=self.settings.card_bytes or 0,
            )
        self._split(chunk, size_bytes)
        self._hand_out(chunk, requested_bytes)
        return chunk

    def free(self, chunk: Chunk, *, is_read_elsewhere: bool = False) -> None:
        """Give a chunk back; one that another stream reads stays active until that is over."""
        chunk.is_used = False
        self.allocated_bytes -= chunk.size_bytes
        if is_read_elsewhere:
            chunk.is_pending = True
            self._pending.append(chunk)
        else:
            self._complete(chunk)

    def complete_events(self) -> None:
        """What other streams were reading has been read."""
        pending, self._pending = self._pending, []
        for chunk in pending:
            self._complete(chunk)

    def empty_cache(self) -> None:
        """Release what is free as a whole, as torch.cuda.empty_cache does."""
        self.complete_events()
        for _, pool in sorted(self._pools.items()):  # large requests first, then by stream
            self._segments.release_idle(pool)

    def keep(self, chunk: Chunk) -> None:
        """Hand a free chunk out to nobody; it waits, as one that another stream reads."""
        chunk.pool.remove(chunk)
        chunk.is_pending = True
        chunk.requested_bytes = 0
        self.active_bytes += chunk.size_bytes
        if chunk.is_split and chunk.reservation is None:
            self.inactive_split_bytes -= chunk.size_bytes

    def give_back(self, chunk: Chunk) -> None:
        """A chunk that was kept is free again."""
        self._complete(chunk)

    @contextmanager
    def limited(self, limit_bytes: int | None) -> Iterator[None]:
        """Segments hold no more within it, as by torch.cuda.set_per_process_memory_fraction."""
        before = self._limit_bytes
        if limit_bytes is not None:
            self._limit_bytes = limit_bytes if before is None else min(before, limit_bytes)
        try:
            yield
        finally:
            self._limit_bytes = before

    def reset_peaks(self) -> None:
        """As torch.cuda.reset_peak_memory_stats."""
        self.peak_allocated_bytes = self.allocated_bytes
        self.peak_active_bytes = self.active_bytes
        self.peak_requested_bytes = self.requested_bytes
        self.peak_inactive_split_bytes = self.inactive_split_bytes
        self.driver.peak_reserved_bytes = self.driver.reserved_bytes

    def _pool(self, is_small: bool, stream: int) -> Pool:
        key = (is_small, stream)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = Pool(is_small, self._clocks[is_small])
        return pool

    def _find(self, pool: Pool, size_bytes: int) -> Chunk | None:
        """The best fitting free chunk, unless it is too large to be handed out whole."""
        pool.clock.searches += 1
        at = pool.first_of(size_bytes)
        if at == len(pool.free):
            return None
        at = self._segments.choose(pool, at)
        chunk = pool.free[at][3]
        most_bytes = self.settings.max_split_bytes
        if most_bytes is not None:
            if size_bytes < most_bytes:
                is_wasted = chunk.size_bytes >= most_bytes
            else:
                most_rest = self.settings.max_non_split_rounding_bytes
                is_wasted = chunk.size_bytes >= size_bytes + most_rest
            if is_wasted:
                return None
        del pool.free[at]
        return chunk

    def _obtain(self, pool: Pool, size_bytes: int) -> Chunk | None:
        """A chunk of new memory; where there is none, after releasing more and more of the old."""
        if self._collects:
            self._collect_garbage()
        chunk = self._obtain_once(pool, size_bytes)
        if chunk is None and self._is_refused_at_once(size_bytes):
            return None
        if chunk is None and self._release_oversize(pool, size_bytes):
            chunk = self._obtain_once(pool, size_bytes)
        if chunk is None:
            self.empty_cache()
            self.retries += 1
            chunk = self._obtain_once(pool, size_bytes)
            self.failures += chunk is None
        return chunk

    def _obtain_once(self, pool: Pool, size_bytes: int) -> Chunk | None:
        segment_bytes = segment_size(size_bytes, self.settings.large_segment_bytes)
        limit_bytes = self._limit_bytes
        if limit_bytes is not None and self.reserved_bytes + segment_bytes > limit_bytes:
            return None
        return self._segments.obtain(pool, size_bytes, segment_bytes)

    def _is_refused_at_once(self, size_bytes: int) -> bool:
        card_bytes = self.settings.card_bytes
        if not self.settings.throws_at_once or self._limit_bytes is not None or card_bytes is None:
            return False
        segment_bytes = segment_size(size_bytes, self.settings.large_segment_bytes)
        return self.reserved_bytes + segment_bytes > card_bytes

    def _split(self, chunk: Chunk, size_bytes: int) -> None:
        rest_bytes = chunk.size_bytes - size_bytes
        if chunk.pool.is_small or self.settings.expandable_segments:
            is_cut = rest_bytes >= MIN_CHUNK_BYTES
        else:
            most_bytes = self.settings.max_split_bytes
            is_cut = rest_bytes > SMALL_BYTES and (most_bytes is None or size_bytes < most_bytes)
        if not is_cut:
            if chunk.is_split and chunk.reservation is None:
                self.inactive_split_bytes -= chunk.size_bytes
            return
        if chunk.reservation is None:
            self.inactive_split_bytes += -size_bytes if chunk.is_split else rest_bytes
        # The rest keeps the rank: it is the old chunk, of which a new one is cut.
        rest = chunk.cut(size_bytes, chunk.rank)
        chunk.rank = self._ranks.of_part(chunk)
        chunk.pool.put(rest)

    def _hand_out(self, chunk: Chunk, requested_bytes: int) -> None:
        chunk.is_used = True
        chunk.requested_bytes = requested_bytes
        self.allocated_bytes += chunk.size_bytes
        self.active_bytes += chunk.size_bytes
        self.requested_bytes += requested_bytes
        self.peak_allocated_bytes = max(self.peak_allocated_bytes, self.allocated_bytes)
        self.peak_active_bytes = max(self.peak_active_bytes, self.active_bytes)
        self.peak_requested_bytes = max(self.peak_requested_bytes, self.requested_bytes)
        self._note_inactive_split()

    def _note_inactive_split(self) -> None:
        if self.inactive_split_bytes > self.peak_inactive_split_bytes:  # noqa: PLR1730 - quicker
            self.peak_inactive_split_bytes = self.inactive_split_bytes

    def _complete(self, chunk: Chunk) -> None:
        """The chunk is free; it merges with free neighbours."""
        chunk.is_pending = False
        self.active_bytes -= chunk.size_bytes
        self.requested_bytes -= chunk.requested_bytes
        change_bytes = 0
        pool = chunk.pool
        for neighbour in (chunk.before, chunk.after):
            if neighbour is not None and neighbour.can_merge:
                pool.remove(neighbour)
                change_bytes -= neighbour.size_bytes
                chunk.absorb(neighbour)
        pool.put(chunk)
        if chunk.reservation is None:
            change_bytes += chunk.size_bytes if chunk.is_split else 0
            self.inactive_split_bytes += change_bytes
            self._note_inactive_split()

    def _release_oversize(self, pool: Pool, size_bytes: int) -> bool:
        """Release chunks too large to be split: one that would do, or several from the largest."""
        most_bytes = self.settings.max_split_bytes
        if most_bytes is None or not isinstance(self._segments, Segments):
            return False
        wanted_bytes = max(size_bytes, most_bytes)
        at = pool.first_of(wanted_bytes)
        if at < len(pool.free):
            self._segments.release(pool.free[at][3])
            return True
        released_bytes = 0
        while pool.free and released_bytes < wanted_bytes:
            chunk = pool.free[-1][3]
            if chunk.size_bytes < most_bytes:
                break
            released_bytes += chunk.size_bytes
            self._segments.release(chunk)
        return released_bytes >= wanted_bytes

    def _collect_garbage(self) -> None:
        """Release unsplit large chunks of at least the mean age until below the threshold."""
        limit_bytes = self._limit_bytes or 0
        threshold_bytes = int(self.settings.garbage_collection_threshold * limit_bytes)
        to_release = self.reserved_bytes - threshold_bytes
        if to_release <= 0 or not isinstance(self._segments, Segments):
            return
        pools = [pool for (is_small, _), pool in sorted(self._pools.items()) if not is_small]
        ages = [
            (pool.clock.searches - chunk.searches_before, chunk)
            for pool in pools
            for *_, chunk in pool.free
            if not chunk.is_split
        ]
        while ages and to_release > 0:
            mean = sum(age for age, _ in ages) / len(ages)
            old = [chunk for age, chunk in ages if age >= mean]
            ages = [(age, chunk) for age, chunk in ages if age < mean]
            for chunk in old:
                to_release -= chunk.size_bytes
                self._segments.release(chunk)
