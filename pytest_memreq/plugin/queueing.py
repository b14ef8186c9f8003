"""Waiting for room, in the order in which workers came; none is passed by who is in its way."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from pytest_memreq.errors import MemreqError
from pytest_memreq.gate.verdict import figure
from pytest_memreq.packing.ledger import (
    Claim,
    capacity_of,
    fits,
    is_stuck,
    lacking_card,
    next_ticket,
    too_small,
)
from pytest_memreq.plugin.book import Book

LOOK_SECONDS = 0.02
OPTION = "--memreq-cards-timeout"


def wait_for_room(book: Book, claim: Claim, timeout_seconds: int) -> None:
    """Until the book has what the claim wants as held.

    Raises MemreqError, and nothing more is held than before, where there will be no room, or none
    in time.
    """
    until = time.monotonic() + timeout_seconds
    claim = _stood_in_line(book, claim)
    while claim.is_waiting:
        time.sleep(LOOK_SECONDS)
        late = f" within {timeout_seconds} s ({OPTION})" if time.monotonic() > until else ""
        claim = _looked(book, claim, late)


def _stood_in_line(book: Book, claim: Claim) -> Claim:
    with book.turn() as turn:
        card = too_small(claim, turn.others)
        if card is not None:
            has = figure(capacity_of(card, [claim, *turn.others]))
            raise MemreqError(f"no card has room for it: {_needs(claim, card)}, which has {has}")
        claim = replace(claim, ticket=next_ticket(turn.others))
        claim = claim.granted() if fits(claim, turn.others) else claim
        turn.write(claim)
    return claim


def _looked(book: Book, claim: Claim, late: str) -> Claim:
    """Once more; `late` is what to say where this was the last time."""
    with book.turn() as turn:
        card = lacking_card(claim, turn.others)
        if card is None:
            claim = claim.granted()
        elif late or is_stuck(claim, turn.others):
            turn.write(claim.given_up())
            raise MemreqError(_refused(claim, card, turn.others, late))
        turn.write(claim)
    return claim


def _refused(claim: Claim, card: int, others: Sequence[Claim], late: str) -> str:
    """What it needed, and who has it: those that wait as well keep only what fixtures left."""
    held = sum(other.held.get(card, 0) for other in others)
    has = figure(capacity_of(card, [claim, *others]))
    who = "other workers hold" if late else "other workers, which wait as well, keep"
    return f"no room on the card{late}: {_needs(claim, card)}, where {who} {figure(held)} of {has}"


def _needs(claim: Claim, card: int) -> str:
    return f"it needs {figure(claim.wanted[card])} of card {card}"
