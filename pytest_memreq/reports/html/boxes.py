"""Boxes of a drawing, and text that has to fit into them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile

# Widths as shares of the font's size, rather too wide: of DejaVu Sans, the widest that is common.
USUAL, CAPITAL, WIDE, FULL = 0.64, 0.78, 1.0, 1.3
WIDTHS = {**dict.fromkeys("ijlI.,:;'|!()[] /\\-", 0.42), **dict.fromkeys("mwMW@%#&+=<>~^_", WIDE)}
ELLIPSIS = "…"
LEAST_CHARACTERS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle in the pixels of a drawing, `y` growing downwards."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """Where it ends."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """Where it ends."""
        return self.y + self.height

    def less(self, *, top: float = 0, sides: float = 0) -> Box:
        """The same without a strip at the top, and with a margin all around, never below zero."""
        return Box(
            x=self.x + min(sides, self.width / 2),
            y=self.y + min(top + sides, self.height),
            width=max(0.0, self.width - 2 * sides),
            height=max(0.0, self.height - top - 2 * sides),
        )


def fitted(text: str, width: float, font: float, *, keeps_end: bool = False) -> str:
    """As much of a text as there is room for, with an ellipsis; nothing where that says nothing."""
    room = width / font
    if sum(map(_width_of, text)) <= room:
        return text
    used = accumulate(map(_width_of, reversed(text) if keeps_end else text))
    count = sum(1 for _ in takewhile(lambda taken: taken + _width_of(ELLIPSIS) <= room, used))
    if count < LEAST_CHARACTERS:
        return ""
    return ELLIPSIS + text[-count:] if keeps_end else text[:count] + ELLIPSIS


def spread(wanted: Sequence[float], gap: float, top: float, bottom: float) -> list[float]:
    """Positions as near as may be to those wanted, in their order, at least `gap` apart.

    They are between `top` and `bottom` if there is room for all.
    """
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    placed = list(wanted)
    least = top
    for at in order:
        placed[at] = max(placed[at], least)
        least = placed[at] + gap
    most = bottom
    for at in reversed(order):
        placed[at] = min(placed[at], most)
        most = placed[at] - gap
    return placed


def _width_of(character: str) -> float:
    if character in WIDTHS:
        return WIDTHS[character]
    if character.isascii():
        return CAPITAL if character.isupper() else USUAL
    return FULL if unicodedata.east_asian_width(character) in "WF" else WIDE
