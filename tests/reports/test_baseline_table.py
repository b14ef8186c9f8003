"""The table of a baseline's changes: figures, and names that break tables."""

from dataclasses import replace

import pytest
from markdown_it import MarkdownIt

from pytest_memreq.gate.baseline import baseline_of
from pytest_memreq.gate.baseline_update import Found, update, without
from pytest_memreq.reports.baseline_table import render
from pytest_memreq.reports.markup import code_cell, code_span
from pytest_memreq.requirement import Peak
from tests.gate.baselines import H200, L4, entry
from tests.reports.hostile import NAMES

MIB = 2**20
BEFORE = baseline_of(
    [
        replace(entry("test_a.py::a"), peak=Peak(requested_bytes=9, allocated_bytes=100 * MIB)),
        entry("test_a.py::same", device=L4),
        entry("test_a.py::moved", device=replace(H200, torch="2.12")),
    ]
)
AFTER = [
    replace(entry("test_a.py::a"), peak=Peak(requested_bytes=9, allocated_bytes=110 * MIB)),
    entry("test_a.py::new", 512),
    entry("test_a.py::same", device=L4),
    entry("test_a.py::moved", 1500),
]


def test_old_and_new_by_device():
    changed = update(BEFORE, [Found(entry=each, word=None) for each in AFTER], "all")
    heading, _, *table, _, count = render(changed).splitlines()
    assert heading == "Baseline of `simulated on NVIDIA H200, torch 2.13`:"
    assert count == "baseline: 1 new, 2 changed, 2 as before"
    assert len({len(line) for line in table}) == 1
    assert [[cell.strip() for cell in line[1:-1].split("|")] for line in table[2:]] == [
        ["`test_a.py::a`", "allocated", "100.00 MiB", "110.00 MiB", "+10,485,760 bytes (+10.00%)"],
        [
            *("`test_a.py::moved`", "allocated"),
            *("1000 B (torch 2.12)", "1.46 KiB", "+500 bytes (+50.00%)"),
        ],
        ["`test_a.py::new`", "allocated", "-", "512 B", "new"],
    ]


def test_what_is_gone():
    lines = render(without(baseline_of([entry()]), [entry()])).splitlines()
    assert lines[-3:] == [
        "| `test_a.py::test_a` | allocated | 1000 B | -   | gone   |",
        "",
        "baseline: 1 gone",
    ]


@pytest.mark.parametrize(
    ("old", "new", "torch", "cells"),
    [
        (Peak(device_bytes=None), Peak(device_bytes=5), "2.13", ["device", "?", "5 B"]),
        (
            Peak(device_bytes=5),
            Peak(device_bytes=None),
            "2.14",
            ["device", "5 B (torch 2.13)", "?"],
        ),
        (Peak(device_bytes=0), Peak(device_bytes=1), "2.13", ["device", "0 B", "1 B", "+1 bytes"]),
    ],
)
def test_figures_that_are_not_known(old, new, torch, cells):
    before = replace(entry(), peak=replace(old, requested_bytes=1))
    after = replace(entry(device=replace(H200, torch=torch)), peak=replace(new, requested_bytes=1))
    changed = update(baseline_of([before]), [Found(entry=after, word=None)], "all")
    (row,) = [line for line in render(changed).splitlines() if "test_a" in line]
    assert [cell.strip() for cell in row.split("|")][2 : 2 + len(cells)] == cells


def test_nothing_to_say():
    assert render(update(baseline_of([]), [], "all")) == "baseline: empty"
    assert render(update(baseline_of([entry()]), [], "all")) == "baseline: 1 as before"


@pytest.mark.parametrize(
    "name", [*NAMES, "a|b", "a\\|b", "``", "` `", "a`b``c", "\\", "<b>", "*a*"]
)
def test_any_name_stays_in_its_cell(name):
    changed = update(baseline_of([]), [Found(entry=entry(name), word=None)], "all")
    text = render(changed)
    assert len(text.splitlines()) == 7
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    kinds = [token.type for token in tokens]
    assert (kinds.count("tr_open"), kinds.count("td_open")) == (2, 5)
    cell = next(token for token, kind in zip(tokens[1:], kinds, strict=False) if kind == "td_open")
    assert [child.type for child in cell.children] == ["code_inline"]
    assert "html" not in " ".join(kinds)


def test_a_code_span_shows_what_is_there():
    assert code_cell("a|b") == r"`a\|b`"
    assert code_span("a|b") == "`a|b`"
    assert code_span("`") == "`` ` ``"
