"""What was live at a peak as a treemap: category, in it modules, in them lines of code.

Pure geometry; `parts.html` draws it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

from pytest_memreq.gate.change import shape_text
from pytest_memreq.reports.html.boxes import Box, fitted
from pytest_memreq.reports.text import visible
from pytest_memreq.requirement import Breakdown, Site
from pytest_memreq.units import format_size

WIDTH, HEIGHT = 640, 380
MOST_LINES = 50  # tiles; the rest of a category is one
FONT, SMALL, LINE_HEIGHT = 12, 10, 12
HEAD_ROOM, MODULE_ROOM = 18, 14
LEAST_SIDE = 3.0  # pixels, of what is drawn on its own
ELSEWHERE = "not listed one by one"

_NUMBERS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Something that held memory, and what is within it, the largest first."""

    name: str
    bytes: int
    told: str = ""
    within: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A line of text, by its left end on the base line."""

    x: float
    y: float
    text: str
    font: int = SMALL
    is_bold: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A node in its place. `depth` is 0 for a category, 1 for a module, 2 for a line."""

    box: Box
    category: str
    depth: int
    title: str
    labels: tuple[Label, ...] = ()


def tree_of(sites: Sequence[Site], breakdown: Breakdown | None) -> tuple[Node, ...]:
    """Categories with modules and lines; what the breakdown has beyond the sites is in too."""
    known = [site for site in sites if site.bytes > 0]
    listed = sorted(known, key=lambda site: -site.bytes)[:MOST_LINES]
    words = {} if breakdown is None else {word: size or 0 for word, size in breakdown.items()}
    words.pop("context", None)  # it is no part of `allocated`, and would leave no room for that
    sums = {
        word: sum(site.bytes for site in known if site.category == word) for word in _words(known)
    }
    totals = {word: max(words.get(word, 0), sums.get(word, 0)) for word in (*words, *sums)}
    nodes = [
        _category(word, total, [site for site in listed if site.category == word])
        for word, total in totals.items()
        if total > 0
    ]
    return _largest_first(nodes)


def laid_out(nodes: Sequence[Node], box: Box) -> tuple[Tile, ...]:
    """Every tile that is large enough to be seen, a larger one before those within it."""
    total = sum(node.bytes for node in nodes)
    tiles: list[Tile] = []
    for node, place in zip(nodes, squarify([node.bytes for node in nodes], box), strict=True):
        _place(tiles, node, place, depth=0, category=node.name, path="", total=total)
    return tuple(tiles)


def squarify(sizes: Sequence[int], box: Box) -> tuple[Box, ...]:
    """Boxes that fill `box`, as large as the sizes and as near to squares as may be.

    By Bruls, Huizing and van Wijk, Squarified Treemaps (2000). Sizes are above 0, best the largest
    first.
    """
    placed: list[Box] = []
    while len(placed) < len(sizes):
        rest = sizes[len(placed) :]
        scale = box.width * box.height / sum(rest)
        areas = [size * scale for size in rest]
        side, count = min(box.width, box.height), 1
        while count < len(rest) and _worst(areas[: count + 1], side) <= _worst(areas[:count], side):
            count += 1
        strip, box = _cut(box, sum(rest[:count]) / sum(rest))
        placed += _divided(strip, rest[:count])
    return tuple(placed)


def _worst(areas: Sequence[float], side: float) -> float:
    """The most that a box in a strip along `side` is longer than wide."""
    whole = sum(areas)
    if not whole or not side:
        return 0.0
    return max(
        max(side * side * a / whole / whole, whole * whole / side / side / a) for a in areas if a
    )


def _cut(box: Box, share: float) -> tuple[Box, Box]:
    """A strip along the shorter side, and what is left."""
    if box.width >= box.height:
        width = box.width * share
        strip = Box(x=box.x, y=box.y, width=width, height=box.height)
        return strip, Box(x=box.x + width, y=box.y, width=box.width - width, height=box.height)
    height = box.height * share
    strip = Box(x=box.x, y=box.y, width=box.width, height=height)
    return strip, Box(x=box.x, y=box.y + height, width=box.width, height=box.height - height)


def _divided(strip: Box, sizes: Sequence[int]) -> list[Box]:
    """The strip in pieces, along its longer side."""
    whole, is_upright, pieces = sum(sizes), strip.height >= strip.width, []
    for until, size in zip(accumulate(sizes), sizes, strict=True):
        begin, share = (until - size) / whole, size / whole
        x, y = (0.0, begin * strip.height) if is_upright else (begin * strip.width, 0.0)
        width = strip.width * (1 if is_upright else share)
        height = strip.height * (share if is_upright else 1)
        pieces.append(Box(x=strip.x + x, y=strip.y + y, width=width, height=height))
    return pieces


def _category(word: str, total: int, sites: Sequence[Site]) -> Node:
    modules = [
        _module(name, list(group))
        for name, group in groupby(sorted(sites, key=_module_of), key=_module_of)
    ]
    rest = total - sum(site.bytes for site in sites)
    if rest > 0:
        modules.append(Node(name=ELSEWHERE if sites else "", bytes=rest))
    return Node(name=word, bytes=total, within=_largest_first(modules))


def _module(name: str, sites: Sequence[Site]) -> Node:
    lines = [
        Node(name=site.source or site.operator or "", bytes=site.bytes, told=_told(site))
        for site in sites
    ]
    total = sum(line.bytes for line in lines)
    return Node(name=name or "no module", bytes=total, within=_largest_first(lines))


def _told(site: Site) -> str:
    return ", ".join(filter(None, (shape_text(site), site.operator, site.source)))


def _place(
    tiles: list[Tile], node: Node, box: Box, *, depth: int, category: str, path: str, total: int
) -> None:
    if min(box.width, box.height) < LEAST_SIDE:
        return
    names = ", ".join(filter(None, (path, node.name)))
    is_leaf = not node.within or (depth == 1 and len(node.within) == 1)
    told = node.within[0].told if is_leaf and node.within else node.told
    title = f"{names}: {format_size(node.bytes)} ({node.bytes / total:.1%})"
    tile = Tile(
        box=box,
        category=category,
        depth=depth if node.within and not is_leaf else 2,
        title=visible(f"{title}; {told}" if told else title, 300),
        labels=_leaf_labels(node, box) if is_leaf else _head(node, box, depth),
    )
    tiles.append(tile)
    if is_leaf:
        return
    room = (HEAD_ROOM if depth == 0 else MODULE_ROOM) if tile.labels else 0
    inner = box.less(top=room, sides=1)
    places = squarify([each.bytes for each in node.within], inner)
    for each, place in zip(node.within, places, strict=True):
        _place(tiles, each, place, depth=depth + 1, category=category, path=names, total=total)


def _head(node: Node, box: Box, depth: int) -> tuple[Label, ...]:
    """The name above what is within, where that leaves most of the box."""
    room, font = (HEAD_ROOM, FONT) if depth == 0 else (MODULE_ROOM, SMALL)
    if box.height < 2.5 * room:
        return ()
    name, width = visible(node.name), box.width - 8
    text = _whole(f"{name}  {format_size(node.bytes)}", width, font) or _cut_name(name, width, font)
    label = Label(x=box.x + 4, y=box.y + room - 4, text=text, font=font, is_bold=depth == 0)
    return (label,) if text else ()


def _leaf_labels(node: Node, box: Box) -> tuple[Label, ...]:
    """As many lines as fit: what it is, how much, and where; half a size would be another."""
    width = box.width - 6
    names = [node.name, *(each.name for each in node.within)]
    first, *more = [_short(visible(name), width) for name in names]
    lines = [first, _whole(format_size(node.bytes), width, SMALL), *more]
    count = int((box.height - 4) / LINE_HEIGHT)
    return tuple(
        Label(x=box.x + 3, y=box.y + LINE_HEIGHT * at, text=text)
        for at, text in enumerate([*filter(None, lines)][:count], 1)
    )


def _short(name: str, width: float) -> str:
    """A name, of a path its last part, or as much of that as fits."""
    return _whole(name, width, SMALL) or _cut_name(name.rpartition("/")[2], width, SMALL)


def _cut_name(name: str, width: float, font: float) -> str:
    """Modules and lines of code differ in their ends; words are read from their beginning."""
    return fitted(name, width, font, keeps_end="." in name)


def _whole(text: str, width: float, font: float) -> str:
    return text if fitted(text, width, font) == text else ""


def _words(sites: Iterable[Site]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(site.category for site in sites))


def _module_of(site: Site) -> str:
    return site.module or ""


def _largest_first(nodes: Iterable[Node]) -> tuple[Node, ...]:
    return tuple(sorted(nodes, key=lambda node: (-node.bytes, _as_counted(node.name))))


def _as_counted(name: str) -> list[tuple[int, str]]:
    """A key by which `blocks.2` is before `blocks.11`."""
    return [(len(part) if part.isdigit() else 0, part) for part in _NUMBERS.split(name)]
