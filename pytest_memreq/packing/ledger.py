"""Who may have room: by bytes on each card, in the order in which workers came to wait.

A worker that waits keeps what it holds, what fixtures left alive above all. One whose room is kept
by those behind it lets them pass; where all are in each other's way, the first will never have any.
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

    So whoever is first is passed by nobody who would be in its way, unless it is blocked.
    """
    return lacking_card(mine, others) is None


def lacking_card(mine: Claim, others: Sequence[Claim]) -> int | None:
    """The first card that has no room for it now."""
    before = [other for other in others if 0 < other.ticket < mine.ticket]
    claims = [mine, *others]
    claimed = [
        _whole(other) if other in before and not _is_blocked(other, claims) else other.held
        for other in others
    ]
    return next(_lacking(mine, claimed, others), None)


def is_stuck(mine: Claim, others: Sequence[Claim]) -> bool:
    """True for the first in line where all that wait are blocked: none will ever have room."""
    line = [claim for claim in (mine, *others) if claim.is_waiting]
    is_first = all(mine.ticket <= claim.ticket for claim in line)
    return is_first and all(_is_blocked(claim, [mine, *others]) for claim in line)


def _is_blocked(claim: Claim, claims: Sequence[Claim]) -> bool:
    """True where others that wait keep what it needs: it is of no use that those that run end."""
    kept = [each.held for each in claims if each.is_waiting and each is not claim]
    return next(_lacking(claim, kept, claims), None) is not None


def _lacking(mine: Claim, claimed: Sequence[Sizes], others: Sequence[Claim]) -> Iterator[int]:
    """The cards that have too little beside what is claimed."""
    for card, size in mine.wanted.items():
        taken = sum(sizes.get(card, 0) for sizes in claimed)
        if size and taken + size > capacity_of(card, [mine, *others]):
            yield card


def _whole(claim: Claim) -> Sizes:
    cards = claim.held.keys() | claim.wanted.keys()
    return {card: max(claim.held.get(card, 0), claim.wanted.get(card, 0)) for card in cards}
