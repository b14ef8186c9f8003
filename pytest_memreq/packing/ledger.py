"""Who may have room: by bytes on each card, in the order in which workers came to wait.

A worker that waits keeps what it holds, what fixtures left alive above all. So two can wait for
each other; the first in line then never gets room, and is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

Sizes = Mapping[int, int]  # bytes by the card's number


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What one worker holds of cards, and what it waits for: all that it will hold then.

    Its `ticket` is its place in the line, 0 while it waits for nothing. `capacities` are those of
    the cards that it sees.
    """

    held: Sizes = field(default_factory=dict)
    wanted: Sizes = field(default_factory=dict)
    ticket: int = 0
    capacities: Sizes = field(default_factory=dict)

    @property
    def is_waiting(self) -> bool:
        """True from when it asks for room until it has it, or gives up."""
        return self.ticket > 0

    def granted(self) -> Claim:
        """With the room that it waited for."""
        return replace(self, held=self.wanted, wanted={}, ticket=0)

    def given_up(self) -> Claim:
        """As it was before it waited."""
        return replace(self, wanted={}, ticket=0)


def next_ticket(claims: Iterable[Claim]) -> int:
    """The end of the line."""
    return max((claim.ticket for claim in claims), default=0) + 1


def capacity_of(card: int, claims: Sequence[Claim]) -> int:
    """As somebody says who sees it; one that nobody sees is like the smallest that is seen."""
    said = [size for c in claims if (size := c.capacities.get(card)) is not None]
    return min(said or [size for c in claims for size in c.capacities.values()], default=0)


def too_small(mine: Claim, others: Sequence[Claim]) -> int | None:
    """A card that has less than is wanted of it; None where all have enough, were they empty."""
    return next(_lacking(mine, (), others), None)


def fits(mine: Claim, others: Sequence[Claim]) -> bool:
    """True where there is room beside what others hold, and what those before it in line want.

    So whoever is first is passed by nobody who would be in its way.
    """
    return lacking_card(mine, others) is None


def lacking_card(mine: Claim, others: Sequence[Claim]) -> int | None:
    """The first card that has no room for it now."""
    return next(_lacking(mine, [_claimed(mine, other) for other in others], others), None)


def is_stuck(mine: Claim, others: Sequence[Claim]) -> bool:
    """True for the first in line where those behind it keep what it needs, and wait for it.

    Those that run are taken to give back all that they hold. If they do not, they will wait too, or
    end; it is asked again then.
    """
    if any(0 < other.ticket < mine.ticket for other in others):
        return False
    at_best = [other if other.is_waiting else replace(other, held={}) for other in others]
    blocked = [other for other in at_best if other.is_waiting and not _may(other, mine, at_best)]
    return any(True for _ in _lacking(mine, [other.held for other in blocked], others))


def _may(other: Claim, mine: Claim, claims: Sequence[Claim]) -> bool:
    return fits(other, [mine, *(each for each in claims if each is not other)])


def _lacking(mine: Claim, claimed: Sequence[Sizes], others: Sequence[Claim]) -> Iterator[int]:
    """The cards that have too little beside what is claimed."""
    for card, size in mine.wanted.items():
        taken = sum(sizes.get(card, 0) for sizes in claimed)
        if size and taken + size > capacity_of(card, [mine, *others]):
            yield card


def _claimed(mine: Claim, other: Claim) -> Sizes:
    if not 0 < other.ticket < mine.ticket:
        return other.held
    cards = other.held.keys() | other.wanted.keys()
    return {card: max(other.held.get(card, 0), other.wanted.get(card, 0)) for card in cards}
