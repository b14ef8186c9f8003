"""Cards to pretend: facts, each with its source."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

from pytest_memreq.errors import MemreqError

DEFAULT_CARD = "NVIDIA H200"


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A graphics card as torch reports it: `capacity_bytes` is `total_memory` of its properties."""

    name: str
    capacity_bytes: int
    compute_capability: tuple[int, int]
    multiprocessors: int
    source: str


CARDS: dict[str, Card] = {
    card.name: card
    for card in (
        Card(
            name="NVIDIA H200",
            capacity_bytes=139 * 2**30,
            compute_capability=(9, 0),
            multiprocessors=132,
            source="placeholder",
        ),
    )
}


def find_card(name: str) -> Card:
    """The card of that name, in any case, with or without its maker; MemreqError names the nearest."""
    known = {_key(card.name): card for card in CARDS.values()}
    card = known.get(_key(name))
    if card is None:
        near = get_close_matches(_key(name), known, n=3, cutoff=0.3) or list(known)
        names = ", ".join(repr(known[key].name) for key in near)
        raise MemreqError(f"no card named {name!r} is known; the nearest are {names}")
    return card


def _key(name: str) -> str:
    return name.casefold().removeprefix("nvidia ").strip()
