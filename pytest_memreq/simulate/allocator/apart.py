"""Segments set aside: what is free in them is not handed out until they are given back.

As `measure/backends/segments.py` does on a device, so that figures agree.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from pytest_memreq.simulate.allocator.chunks import Chunk
from pytest_memreq.simulate.allocator.model import Allocator


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A segment set aside: its bytes, and the keys of the chunks in use there."""

    bytes: int
    keys: frozenset[Hashable]


class Apart:
    """What is set aside of an allocator's segments."""

    def __init__(self, allocator: Allocator) -> None:
        self._allocator = allocator
        self._kept: list[Chunk] = []
        self.segments: tuple[Segment, ...] = ()

    def release(self) -> None:
        """All can be handed out again."""
        while self._kept:
            self._allocator.give_back(self._kept.pop())
        self.segments = ()

    def set_aside(self, used: Mapping[Hashable, Chunk], keys: Iterable[Hashable]) -> None:
        """Set those segments aside in which all of the chunks `used` are among `keys`."""
        self.release()
        theirs = frozenset(keys)
        if not theirs:
            return
        inner: dict[int, list[Hashable]] = {}
        heads: dict[int, Chunk] = {}
        for key, chunk in used.items():
            head = _head(chunk)
            heads[id(head)] = head
            inner.setdefault(id(head), []).append(key)
        chosen = [at for at, found in inner.items() if theirs.issuperset(found)]
        for at in chosen:
            free = [chunk for chunk in _chunks(heads[at]) if chunk.can_merge]
            for chunk in free:
                self._allocator.keep(chunk)
            self._kept += free
        self.segments = tuple(
            Segment(
                bytes=sum(chunk.size_bytes for chunk in _chunks(heads[at]) if chunk.is_mapped),
                keys=frozenset(inner[at]),
            )
            for at in chosen
        )


def _head(chunk: Chunk) -> Chunk:
    while chunk.before is not None:
        chunk = chunk.before
    return chunk


def _chunks(head: Chunk) -> Iterator[Chunk]:
    each: Chunk | None = head
    while each is not None:
        yield each
        each = each.after
