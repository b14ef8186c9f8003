"""A requirement held against what a command line allows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_memreq.errors import MemreqError
from pytest_memreq.requirement import Requirement
from pytest_memreq.simulate.cards import Card, find_card
from pytest_memreq.units import format_limit, parse_limit

FITS, DOES_NOT_FIT, CANNOT_TELL = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A number of bytes and what it is."""

    name: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A requirement held against one limit; `fits` is None where it cannot be told."""

    limit: str
    limit_bytes: int
    spare_bytes: int
    fits: bool | None


def limits_of(budget: str | None, gpu: str | None) -> list[Limit]:
    """The limits of --budget and --gpu."""
    card = None if gpu is None else card_of(gpu)
    limits = [] if card is None else [Limit(name=card.name, bytes=card.capacity_bytes)]
    if budget is not None:
        limit = limit_of(budget)
        name = f"the budget of {format_limit(limit)}"
        size_bytes = limit if isinstance(limit, int) else _share(limit, card)
        limits.append(Limit(name=name, bytes=size_bytes))
    return limits


def card_of(gpu: str) -> Card:
    """The card that --gpu names."""
    try:
        return find_card(gpu)
    except MemreqError as error:
        raise MemreqError(f"--gpu: {error}") from None


def limit_of(budget: str) -> int | float:
    """What --budget says: bytes, or the share of a card."""
    try:
        return parse_limit(budget)
    except MemreqError as error:
        raise MemreqError(f"--budget: {error}") from None


def _share(share: float, card: Card | None) -> int:
    if card is None:
        raise MemreqError(f"--budget {format_limit(share)} is a share of a card; say which, --gpu")
    return int(card.capacity_bytes * share)


def fit(needed: Requirement, limit: Limit) -> Fit:
    """Whether it fits; what is known is a lower bound, so without activations it cannot be told."""
    spare_bytes = limit.bytes - needed.total_bytes
    is_known = needed.breakdown.activations_bytes is not None
    fits = False if spare_bytes < 0 else True if is_known else None
    return Fit(limit=limit.name, limit_bytes=limit.bytes, spare_bytes=spare_bytes, fits=fits)


def exit_code(fits: Sequence[Fit]) -> int:
    """Of all limits together: one that does not fit decides."""
    outcomes = [fit.fits for fit in fits]
    if False in outcomes:
        return DOES_NOT_FIT
    return CANNOT_TELL if None in outcomes else FITS
