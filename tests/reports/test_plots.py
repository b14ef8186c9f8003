"""The geometry of plots: nothing overlaps, nothing leaves its box, sizes are true."""

import re
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_memreq.reports.html.boxes import Box, fitted, spread
from pytest_memreq.reports.html.curve import FIELD, WIDTH, curve_of, scale
from pytest_memreq.reports.html.treemap import laid_out, squarify, tree_of
from pytest_memreq.requirement import Breakdown, Site

GIB = 2**30
BOXES = st.builds(
    Box,
    x=st.floats(0, 50),
    y=st.floats(0, 50),
    width=st.floats(1, 900),
    height=st.floats(1, 900),
)
SIZES = st.lists(st.integers(1, 2**62), min_size=1, max_size=40).map(lambda s: sorted(s)[::-1])
SITES = st.lists(
    st.builds(
        Site,
        bytes=st.integers(0, 2**40),
        category=st.sampled_from(("activations", "parameters", "other")),
        module=st.sampled_from((None, "a", "b.0", "b.1")),
        source=st.sampled_from((None, "m.py:1", "m.py:2")),
    ),
    max_size=90,
).map(tuple)
POINTS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 2**62)), min_size=1, max_size=150)


def area(box):
    return box.width * box.height


def overlap(one, other):
    wide = min(one.right, other.right) - max(one.x, other.x)
    high = min(one.bottom, other.bottom) - max(one.y, other.y)
    return max(0, wide) * max(0, high)


def is_within(inner, outer, slack=1e-6):
    return (
        inner.x >= outer.x - slack
        and inner.y >= outer.y - slack
        and inner.right <= outer.right + slack
        and inner.bottom <= outer.bottom + slack
    )


@given(SIZES, BOXES)
def test_boxes_of_a_treemap_fill_theirs_in_proportion_without_overlap(sizes, box):
    placed = squarify(sizes, box)
    assert len(placed) == len(sizes)
    assert sum(map(area, placed)) == pytest.approx(area(box))
    for size, each in zip(sizes, placed, strict=True):
        assert area(each) == pytest.approx(area(box) * size / sum(sizes), abs=1e-6)
        assert is_within(each, box)
    assert all(overlap(*pair) < 1e-6 * area(box) for pair in combinations(placed, 2))


def test_the_published_example_of_a_squarified_treemap():
    """Figure 4 of Bruls, Huizing and van Wijk: 6, 6, 4, 3, 2, 2, 1 in a box of 6 by 4."""
    placed = squarify([6, 6, 4, 3, 2, 2, 1], Box(x=0, y=0, width=6, height=4))
    shapes = [(round(each.width, 2), round(each.height, 2)) for each in placed]
    assert shapes == [
        *((3, 2), (3, 2), (1.71, 2.33), (1.29, 2.33)),
        *((1.2, 1.67), (1.2, 1.67), (0.6, 1.67)),
    ]


@given(SITES, st.none() | st.builds(Breakdown, activations_bytes=st.integers(0, 2**41)))
def test_a_treemap_has_all_bytes_and_what_is_within_a_tile_is_in_its_box(sites, breakdown):
    nodes = tree_of(sites, breakdown)
    sums = {"activations": 0, "parameters": 0, "other": 0}
    for site in sites:
        sums[site.category] += site.bytes
    if breakdown is not None:
        sums["activations"] = max(sums["activations"], breakdown.activations_bytes)
    assert {node.name: node.bytes for node in nodes} == {w: s for w, s in sums.items() if s}
    assert all(node.bytes == sum(each.bytes for each in node.within) for node in nodes)
    box = Box(x=0, y=0, width=600, height=400)
    tiles = laid_out(nodes, box)
    assert all(is_within(tile.box, box) for tile in tiles)
    for depth in (0, 2):
        same = [tile.box for tile in tiles if tile.depth == depth]
        assert all(overlap(*pair) < 1e-3 for pair in combinations(same, 2))
    for tile in tiles:
        for label in tile.labels:
            assert tile.box.x < label.x < tile.box.right
            assert tile.box.y < label.y <= tile.box.bottom
            assert len(label.text) * 0.4 * label.font < tile.box.width


@given(POINTS, st.dictionaries(st.sampled_from(("budget", "baseline")), st.integers(0, 2**50)))
def test_a_curve_stays_in_its_field_and_marks_the_peak(points, limits):
    curve = curve_of(points, limits)
    across = [float(x) for x in re.findall(r"[MH]([0-9.-]+)", curve.path)]
    up = [float(y) for y in re.findall(r"[V ]([0-9.-]+)", curve.path)]
    assert len(across) == len(points)
    assert across == sorted(across)
    assert all(FIELD.x - 0.06 <= x <= FIELD.right + 0.06 for x in across)
    assert all(FIELD.y - 0.06 <= y <= FIELD.bottom + 0.06 for y in up)
    assert curve.peak_bytes == max(size for _, size in points)
    assert min(up) == pytest.approx(curve.peak_y, abs=0.06)
    assert FIELD.x <= curve.peak_x <= FIELD.right
    assert {line.kind for line in curve.lines} == {"peak", *limits}
    names = sorted(line.name_y for line in curve.lines)
    assert all(second - first >= 15.9 for first, second in pairwise(names))
    for line in curve.lines:
        assert FIELD.y <= line.y <= FIELD.bottom
        assert FIELD.right + 14 + len(line.text) * 0.62 * 12 < WIDTH + 30
    assert all(FIELD.y - 0.1 <= tick.y <= FIELD.bottom for tick in curve.ticks)


def test_a_budget_far_above_leaves_the_curve_its_height_and_is_named():
    near, far = (curve_of([(0, 0), (1, GIB)], {"budget": n * GIB}) for n in (2, 40))
    assert far.peak_y < near.peak_y
    assert [line.text for line in far.lines] == ["peak 1.00 GiB", "budget 40.00 GiB ↑"]


def test_no_points_no_curve():
    assert curve_of([], {"budget": 1}) is None


@given(st.integers(1, 2**62))
def test_a_scale_is_of_few_round_values_from_zero(top):
    values = scale(top)
    assert values[0][0] == 0
    assert 1 <= len(values) <= 6
    assert all(size <= top for size, _ in values)
    steps = {second[0] - first[0] for first, second in pairwise(values)}
    assert len(steps) <= 1
    assert top < 5 or len(values) >= 3


@pytest.mark.parametrize(
    ("top", "said"),
    [
        (int(2.2 * GIB), ["0 GiB", "0.5 GiB", "1 GiB", "1.5 GiB", "2 GiB"]),
        (700 * 2**20, ["0 MiB", "200 MiB", "400 MiB", "600 MiB"]),
        (5, ["0 B", "1 B", "2 B", "3 B", "4 B", "5 B"]),
    ],
)
def test_a_scale_has_one_unit(top, said):
    assert [text for _, text in scale(top)] == said


@given(st.text(), st.floats(0, 300), st.sampled_from((10, 12)), st.booleans())
def test_a_text_is_whole_or_cut_with_an_ellipsis_or_not_there(text, width, font, keeps_end):
    cut = fitted(text, width, font, keeps_end=keeps_end)
    whole = f"…{text[len(text) - len(cut) + 1 :]}" if keeps_end else f"{text[: len(cut) - 1]}…"
    assert cut in (text, "", whole)
    assert cut == text or len(cut) * 0.4 * font <= width + 1e-6


@given(st.lists(st.floats(0, 100), max_size=4))
def test_names_are_apart_and_between_the_ends(wanted):
    placed = spread(wanted, 16, 0, 100)
    assert all(-1e-9 <= each <= 100 for each in placed)
    assert all(second - first >= 16 - 1e-9 for first, second in pairwise(sorted(placed)))
    assert sorted(range(len(wanted)), key=lambda at: (placed[at], at)) == sorted(
        range(len(wanted)), key=lambda at: (wanted[at], at)
    )


def test_a_context_takes_no_room_from_what_was_allocated():
    broken_down = Breakdown(inputs_bytes=4096, context_bytes=GIB)
    [node] = tree_of([Site(bytes=4096, category="inputs")], broken_down)
    assert (node.name, node.bytes) == ("inputs", 4096)
