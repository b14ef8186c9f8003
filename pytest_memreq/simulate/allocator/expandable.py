"""Expandable segments: addresses reserved once, memory mapped to them as it is needed."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_memreq.simulate.allocator.chunks import (
    SMALL_SEGMENT_BYTES,
    Chunk,
    Pool,
    Reservation,
    round_up,
)
from pytest_memreq.simulate.allocator.memory import Driver, Ranks

ENDLESS_CARD_BYTES = 2**47


@dataclass(slots=True)
class ExpandableSegments:
    """One reservation of 9/8 of the card for each pool and stream, mapped in granules."""

    driver: Driver
    ranks: Ranks

    def obtain(self, pool: Pool, size_bytes: int, segment_bytes: int) -> Chunk | None:  # noqa: ARG002 - as Segments has it
        """A free chunk of the size or more, grown by mapping; None if the card is full."""
        chunk = self._to_grow(pool, size_bytes) or self._reserved(pool)
        if not chunk.is_mapped and not self._map(chunk, min(chunk.size_bytes, size_bytes)):
            return None
        while chunk.size_bytes < size_bytes:
            more = chunk.after
            assert more is not None  # _to_grow has seen that there is enough behind it
            if not self._map(more, min(size_bytes - chunk.size_bytes, more.size_bytes)):
                return None
            chunk = more
        pool.remove(chunk)
        return chunk

    def choose(self, pool: Pool, at: int) -> int:
        """The chunk with the least behind it that could be mapped, of those first in size."""
        while at + 1 < len(pool.free) and _room(pool.free[at + 1][3]) < _room(pool.free[at][3]):
            at += 1
        return at

    def release_idle(self, pool: Pool) -> None:
        """Unmap every granule that is free as a whole."""
        for *_, chunk in tuple(pool.free):
            self._unmap(chunk)

    def _to_grow(self, pool: Pool, size_bytes: int) -> Chunk | None:
        """The first run of idle chunks that is large enough and has something to map."""
        for _, unmapped in pool.unmapped:
            before = unmapped.before
            first = before if before is not None and before.is_idle else unmapped
            total_bytes, chunk = 0, first
            while total_bytes < size_bytes and chunk is not None and chunk.is_idle:
                total_bytes += chunk.size_bytes
                chunk = chunk.after  # type: ignore[assignment]  # None ends the run
            if total_bytes >= size_bytes:
                return first
        return None

    def _reserved(self, pool: Pool) -> Chunk:
        settings = self.driver.settings
        granule_bytes = SMALL_SEGMENT_BYTES if pool.is_small else settings.large_segment_bytes
        card_bytes = settings.card_bytes or ENDLESS_CARD_BYTES
        size_bytes = round_up(card_bytes + card_bytes // 8, granule_bytes)
        address = self.driver.place(size_bytes)
        chunk = Chunk(address, size_bytes, pool, self.ranks.of_segment())
        chunk.is_mapped = False
        chunk.reservation = Reservation(address, granule_bytes)
        pool.put_unmapped(chunk)
        return chunk

    def _map(self, chunk: Chunk, size_bytes: int) -> bool:
        """Map the first bytes of the chunk, in whole granules; merge it with free neighbours."""
        assert chunk.reservation is not None
        mapped_bytes = round_up(size_bytes, chunk.reservation.granule_bytes)
        if not self.driver.can_give(mapped_bytes):
            return False
        pool = chunk.pool
        pool.remove_unmapped(chunk)
        chunk.is_mapped = True
        self.driver.give(chunk.address, mapped_bytes)
        if mapped_bytes < chunk.size_bytes:
            rest = chunk.cut(mapped_bytes, self.ranks.of_part(chunk))
            rest.is_mapped = False
            pool.put_unmapped(rest)
        for neighbour in (chunk.before, chunk.after):
            if neighbour is not None and neighbour.can_merge:
                pool.remove(neighbour)
                chunk.absorb(neighbour)
        pool.put(chunk)
        return True

    def _unmap(self, chunk: Chunk) -> None:
        reservation, pool = chunk.reservation, chunk.pool
        assert reservation is not None
        granule_bytes, origin = reservation.granule_bytes, reservation.address
        start = origin + round_up(chunk.address - origin, granule_bytes)
        end = origin + (chunk.address + chunk.size_bytes - origin) // granule_bytes * granule_bytes
        if start >= end:
            return
        pool.remove(chunk)
        if start > chunk.address:
            pool.put(self._cut_front(chunk, start - chunk.address))
        if chunk.size_bytes > end - start:
            pool.put(chunk.cut(end - start, self.ranks.of_part(chunk)))
        chunk.is_mapped = False
        for neighbour in (chunk.before, chunk.after):
            if neighbour is not None and not neighbour.is_mapped:
                pool.remove_unmapped(neighbour)
                chunk.absorb(neighbour)
        self.driver.take_back(start, end - start)
        if chunk.is_split:  # else nothing is left of the reservation
            pool.put_unmapped(chunk)

    def _cut_front(self, chunk: Chunk, size_bytes: int) -> Chunk:
        front = Chunk(chunk.address, size_bytes, chunk.pool, self.ranks.of_part(chunk))
        front.reservation = chunk.reservation
        front.before, front.after = chunk.before, chunk
        if front.before is not None:
            front.before.after = front
        chunk.before = front
        chunk.address += size_bytes
        chunk.size_bytes -= size_bytes
        return front


def _room(chunk: Chunk) -> int:
    """Bytes of a free chunk and of what behind it could be mapped."""
    after = chunk.after
    return chunk.size_bytes + (0 if after is None or after.is_mapped else after.size_bytes)
