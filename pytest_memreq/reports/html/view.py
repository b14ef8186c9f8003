"""What the templates are given of a test: frozen values, every text already as it is shown."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_memreq.gate.hints import Hint
from pytest_memreq.reports.html import curve, treemap


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of the table of all tests; `anchor` leads to its card, where there is one."""

    verdict: str
    name: str
    anchor: str
    peak: str
    budget: str
    used: str
    baseline: str
    change: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One metric of a test beside all that it is held against."""

    metric: str
    peak: str
    budget: str
    used: str
    baseline: str
    change: str
    simulated: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """Something that was live at the peak."""

    size: str
    share: str
    category: str
    module: str
    what: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Lines under a heading, and how many more there are."""

    title: str
    lines: tuple[str, ...]
    more: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """All of a test; `curve` and `tiles` are there where it has plots."""

    anchor: str
    verdict: str
    name: str
    place: str
    facts: str
    reasons: tuple[str, ...]
    figures: tuple[Figures, ...]
    has_simulated: bool
    grown: tuple[str, ...]
    hints: tuple[Hint, ...]
    live: tuple[Live, ...]
    live_more: str
    breakdown: str
    listings: tuple[Listing, ...]
    curve: curve.Curve | None = None
    curve_of: str = ""
    tiles: tuple[treemap.Tile, ...] = ()
