"""What a simulated step needed: the result of `simulate`."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_memreq.requirement import Finding
from pytest_memreq.simulate.cards import Card


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation(Finding):
    """A simulated step: its peaks, what was live at the peak of `allocated`, and the way there.

    `phases` holds the number of the event that each phase begins with and its name: `forward`,
    `backward` or `optimizer`. `possible_peak_bytes` is the peak of `allocated` if
    library calls took the memory for themselves that they may, and which no rule derives: as much
    as the call's arguments and results together. It is None where nothing is uncertain.
    `rank` of `world_size` is whose requirement it is.
    """

    card: Card
    phases: tuple[tuple[int, str], ...] = ()
    possible_peak_bytes: int | None = None
    world_size: int = 1
    rank: int = 0
