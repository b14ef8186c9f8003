"""What tests had of cards, for reports."""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_memreq.requirement import Peak

MOST_CARDS = 64  # that a worker's claim has places for


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What was set aside of a card for a test, from when to when, in seconds since the epoch.

    0 bytes for a test without a limit, which waits for nothing.
    """

    card: int
    bytes: int
    waited_seconds: float
    begun_seconds: float
    ended_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """The most that tests had of one card at the same time: of each figure the largest.

    `tests` is how many ran, `rooms_bytes` what was set aside for them, `peak` the sum of their
    peaks, which need not have been at the same moment.
    """

    card: int
    tests: int
    rooms_bytes: int
    peak: Peak = field(default_factory=Peak)
