"""What tests that ran at the same time had of a card together. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from operator import add

from pytest_memreq.packing.rooms import Together
from pytest_memreq.requirement import METRICS, Peak
from pytest_memreq.results import TestResult

_NOTHING = Peak(**{f"{metric}_bytes": 0 for metric in METRICS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """A test on a card, from when to when."""

    begun: float
    ended: float
    room_bytes: int
    peak: Peak


def together(tests: Iterable[TestResult]) -> tuple[Together, ...]:
    """By card, for those that tests had room on."""
    stays: dict[int, list[Stay]] = {}
    for test in tests:
        for card, stay in _stays(test):
            stays.setdefault(card, []).append(stay)
    return tuple(_of_card(card, stays[card]) for card in sorted(stays))


def largest_together(parts: Iterable[Iterable[Together]]) -> tuple[Together, ...]:
    """Of runs that did not share their cards: by card the largest of each figure."""
    found: dict[int, Together] = {}
    for each in (each for part in parts for each in part):
        other = found.get(each.card, each)
        found[each.card] = Together(
            card=each.card,
            tests=max(each.tests, other.tests),
            rooms_bytes=max(each.rooms_bytes, other.rooms_bytes),
            peak=each.peak.larger(other.peak),
        )
    return tuple(found[card] for card in sorted(found))


def _stays(test: TestResult) -> Iterator[tuple[int, Stay]]:
    for place, room in enumerate(test.rooms):
        peak = _peak_on(test, room.card, is_first=place == 0)
        begun, ended = room.begun_seconds, room.ended_seconds
        yield room.card, Stay(begun=begun, ended=ended, room_bytes=room.bytes, peak=peak)


def _peak_on(test: TestResult, card: int, *, is_first: bool) -> Peak:
    """Of ranks, those whose local number has the card; of devices that one; else the first."""
    if test.ranks is not None:
        cards = len(test.rooms)
        return _sum([row.peak for row in test.ranks if row.rank % cards == card])
    if test.devices and len(test.rooms) > 1:
        return next((d.peak for d in test.devices if d.index == card), _NOTHING)
    return test.peak if is_first else _NOTHING


def _of_card(card: int, stays: Iterable[Stay]) -> Together:
    """Sums are largest where a test has just begun."""
    running: list[Stay] = []
    most, tests, rooms_bytes = _NOTHING, 0, 0
    for stay in sorted(stays, key=lambda each: each.begun):
        running = [*(each for each in running if each.ended > stay.begun), stay]
        tests = max(tests, len(running))
        rooms_bytes = max(rooms_bytes, sum(each.room_bytes for each in running))
        most = _both(most, _sum([each.peak for each in running]), max)
    return Together(card=card, tests=tests, rooms_bytes=rooms_bytes, peak=most)


def _sum(peaks: Iterable[Peak]) -> Peak:
    return reduce(lambda one, other: _both(one, other, add), peaks, _NOTHING)


def _both(one: Peak, other: Peak, joined: Callable[[int, int], int]) -> Peak:
    """Metric by metric; what is not known of one is not known of both."""
    sizes = {m: (one.of(m), other.of(m)) for m in METRICS}
    return Peak(
        **{
            f"{metric}_bytes": None if a is None or b is None else joined(a, b)
            for metric, (a, b) in sizes.items()
        }
    )
