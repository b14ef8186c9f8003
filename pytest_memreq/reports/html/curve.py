"""Memory over time as a curve, with its peak and the lines that it is held against.

Pure geometry; `parts.html` draws it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_memreq.reports.html.boxes import Box, spread
from pytest_memreq.units import PRINTED_UNITS, UNIT_BYTES, format_size

WIDTH, HEIGHT = 640, 220
FIELD = Box(x=66, y=14, width=426, height=174)  # beside it the ticks, and the lines' names
NAME_GAP = 16
MOST_TICKS = 5
OFF_THE_SCALE = 3  # a line that is so many times the peak would leave a flat curve


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line across the field at `y`, its name beside it at `name_y`; `kind` is what it is."""

    kind: str
    text: str
    y: float
    name_y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A value on the scale."""

    y: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """What is to be drawn; `path` is the curve, `area` what closes it below."""

    path: str
    area: str
    peak_x: float
    peak_y: float
    peak_bytes: int
    events: int
    lines: tuple[Line, ...]
    ticks: tuple[Tick, ...]


def curve_of(points: Sequence[tuple[int, int]], limits: Mapping[str, int]) -> Curve | None:
    """The curve of (event, bytes), with lines at `limits` by what they are; None of no points."""
    ordered = sorted((at, max(0, size)) for at, size in points)
    if not ordered:
        return None
    peak_at, peak = max(ordered, key=lambda point: (point[1], -point[0]))
    shown = {kind: size for kind, size in limits.items() if size <= OFF_THE_SCALE * max(peak, 1)}
    top = max(1, peak, *shown.values()) * 1.06
    first, last = ordered[0][0], ordered[-1][0]
    placed = [(_across(at, first, last), _up(size, top)) for at, size in ordered]
    return Curve(
        path=_steps(placed),
        area=f"H{number(FIELD.right)}V{number(FIELD.bottom)}H{number(FIELD.x)}Z",
        peak_x=_across(peak_at, first, last),
        peak_y=_up(peak, top),
        peak_bytes=peak,
        events=last - first,
        lines=_lines({"peak": peak, **limits}, shown, top),
        ticks=tuple(Tick(y=_up(size, top), text=text) for size, text in scale(int(top))),
    )


def scale(top_bytes: int) -> list[tuple[int, str]]:
    """Round values from 0 up to `top_bytes`, a few of them, in one unit."""
    unit = next((name for name in PRINTED_UNITS if top_bytes >= UNIT_BYTES[name]), "B")
    most = top_bytes / UNIT_BYTES[unit]
    steps = (f * 10**n for n in range(7) for f in (0.25, 0.5, 1, 2))
    step = next(
        step
        for step in steps
        if most / step <= MOST_TICKS and (unit != "B" or step == int(step))  # no half a byte
    )
    count = int(most / step)
    return [(int(n * step * UNIT_BYTES[unit]), f"{n * step:g} {unit}") for n in range(count + 1)]


def number(value: float) -> str:
    """A coordinate, to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")


def _across(at: int, first: int, last: int) -> float:
    return FIELD.x + FIELD.width * ((at - first) / (last - first) if last > first else 0)


def _up(size: int, top: float) -> float:
    return FIELD.bottom - FIELD.height * min(1, size / top)


def _steps(placed: Sequence[tuple[float, float]]) -> str:
    """What is allocated stays so until the next event."""
    (x, y), *more = placed
    return f"M{number(x)} {number(y)}" + "".join(f"H{number(x)}V{number(y)}" for x, y in more)


def _lines(sizes: Mapping[str, int], shown: Mapping[str, int], top: float) -> tuple[Line, ...]:
    kinds = [kind for kind in sizes if kind == "peak" or kind in shown]
    off = [kind for kind in sizes if kind not in kinds]
    places = [*(_up(sizes[kind], top) for kind in kinds), *(FIELD.y for _ in off)]
    names = spread(places, NAME_GAP, FIELD.y, FIELD.bottom)
    arrows = ["" for _ in kinds] + [" ↑" for _ in off]
    return tuple(
        Line(kind=kind, text=f"{kind} {format_size(sizes[kind])}{arrow}", y=y, name_y=name_y)
        for kind, arrow, y, name_y in zip((*kinds, *off), arrows, places, names, strict=True)
    )
