"""A sequence of requests and frees replayed through the allocator: a pure function of both."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pytest_memreq.requirement import Peak
from pytest_memreq.simulate.allocator.chunks import Chunk
from pytest_memreq.simulate.allocator.memory import DriverCall
from pytest_memreq.simulate.allocator.model import DEFAULT, Allocator, OutOfDeviceMemory
from pytest_memreq.simulate.allocator.settings import AllocatorSettings

Action = Literal["allocate", "free", "read_elsewhere", "events_complete", "empty_cache"]


class Event(NamedTuple):
    """Something that happens to allocation `number`, or to the allocator as a whole.

    "read_elsewhere" is Tensor.record_stream: freed afterwards, the memory is usable again when
    "events_complete" has come. `bytes` and `stream` are of an "allocate".
    """

    action: Action
    number: int = -1
    bytes: int = 0
    stream: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Peaks in bytes, the way there, and what the driver gave and took.

    `timeline` holds (allocated, reserved) after each event. `addresses` are those of the
    allocations, in order. `failed_at` is the event for which there was no room, None if all had.
    """

    peak: Peak
    timeline: tuple[tuple[int, int], ...]
    addresses: tuple[int, ...]
    driver_calls: tuple[DriverCall, ...]
    failed_at: int | None = None


def replay(events: Iterable[Event], settings: AllocatorSettings = DEFAULT) -> Replay:
    """Peaks of a sequence of events; the first request without room ends it."""
    allocator = Allocator(settings)
    allocator.are_events_ready = False
    chunks: dict[int, Chunk] = {}
    read_elsewhere: set[int] = set()
    addresses: list[int] = []
    timeline: list[tuple[int, int]] = []
    failed_at: int | None = None
    for at, (action, number, size_bytes, stream) in enumerate(events):
        if action == "allocate":
            try:
                chunk = allocator.allocate(size_bytes, stream)
            except OutOfDeviceMemory:
                failed_at = at
                break
            chunks[number] = chunk
            addresses.append(chunk.address)
        elif action == "free":
            allocator.free(chunks.pop(number), is_read_elsewhere=number in read_elsewhere)
            read_elsewhere.discard(number)
        elif action == "read_elsewhere":
            read_elsewhere.add(number)
        elif action == "events_complete":
            allocator.complete_events()
        else:
            allocator.empty_cache()
        timeline.append((allocator.allocated_bytes, allocator.reserved_bytes))
    return Replay(
        peak=Peak(
            requested_bytes=allocator.peak_requested_bytes,
            allocated_bytes=allocator.peak_allocated_bytes,
            reserved_bytes=allocator.peak_reserved_bytes,
        ),
        timeline=tuple(timeline),
        addresses=tuple(addresses),
        driver_calls=tuple(allocator.driver.calls),
        failed_at=failed_at,
    )
