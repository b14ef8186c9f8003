"""The section in the terminal."""

import pytest

from pytest_memreq.reports.terminal import render
from pytest_memreq.reports.text import visible
from pytest_memreq.requirement import Breakdown, Peak, Site
from pytest_memreq.results import Environment, Results, TestResult
from tests.reports.hostile import NAMES

GIB = 2**30


def result(name="tests/test_a.py::test_step", verdict="within", **more):
    given = {
        "mode": "simulated",
        "reason": "as it is",
        "outcome": "passed" if verdict == "within" else "failed",
        "peak": Peak(allocated_bytes=GIB),
        "peak_at": "backward of head, model.py:88",
        "budget": {"allocated_bytes": 2 * GIB},
        **more,
    }
    return TestResult(nodeid=name, verdict=verdict, **given)


def lines_of(*tests, width=160, **more):
    return [line.text for line in render(Results(tests=tests, **more), width=width)]


def test_a_row_has_verdict_peak_budget_bar_test_and_place():
    (_, row, _) = lines_of(result())
    assert row == (
        "within       1.00 GiB of    2.00 GiB [#####.....]  50% tests/test_a.py::test_step"
        "  backward of head, model.py:88"
    )


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_rows_keep_to_the_width(width):
    lines = lines_of(result("tests/" + "x" * 300), result(), width=width)
    assert max(map(len, lines)) <= max(width, 60)


def test_below_a_failure_are_reason_breakdown_and_the_three_largest():
    sites = tuple(Site(bytes=size, category="activations") for size in (4000, 3000, 2000, 1000))
    test = result(
        verdict="over",
        reason="over by 1 byte",
        breakdown=Breakdown(parameters_bytes=1024, activations_bytes=3072, buffers_bytes=0),
        sites=sites,
    )
    lines = [line.strip() for line in lines_of(test)][2:-1]
    assert lines == [
        "over by 1 byte",
        "activations 3.00 KiB (75%), parameters 1.00 KiB (25%)",
        "3.91 KiB activations",
        "2.93 KiB activations",
        "1.95 KiB activations",
    ]


def test_a_test_that_failed_before_it_allocated_shows_its_reason_alone():
    test = result(verdict="error", reason="the test failed", breakdown=Breakdown(buffers_bytes=0))
    assert [line.strip() for line in lines_of(test)][2:-1] == ["the test failed"]


def test_an_excess_that_was_expected_says_so_and_needs_no_reason():
    lines = lines_of(result(verdict="over", outcome="xfailed", peak=Peak(allocated_bytes=3 * GIB)))
    assert lines[1].startswith("expected     3.00 GiB of    2.00 GiB [#########>] 150%")
    assert lines[-1] == "1 over (1 of them expected)"
    assert len(lines) == 3


def test_what_is_not_known_is_a_question_mark():
    (_, row, *_) = lines_of(result(verdict="unchecked", peak=Peak(), peak_at=None))
    assert row.startswith("unchecked           ? of    2.00 GiB [??????????]")


def test_the_metric_nearest_to_its_limit_is_shown():
    test = result(
        peak=Peak(allocated_bytes=GIB, reserved_bytes=2 * GIB),
        budget={"allocated_bytes": 2 * GIB, "reserved_bytes": 2 * GIB},
    )
    assert "2.00 GiB of    2.00 GiB reserved [##########] 100%" in lines_of(test)[1]


def test_notes_are_collected_below_the_table():
    lines = lines_of(result(notes=("a", "b")), result(notes=("a",)))
    assert lines[-3:-1] == ["note: a (2 tests)", "note: b (1 test)"]


def test_the_heading_names_mode_and_card():
    where = Environment(mode="simulated", gpu="L4", gpu_bytes=24 * GIB, torch="2.13.0+cpu")
    assert lines_of(environment=where)[0] == (
        "simulated on L4 (24.00 GiB), torch 2.13.0; peaks are of allocated"
    )


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_hostile_names_stay_text(name):
    sites = (Site(bytes=1, category="activations", module=name),)
    test = result(name, "over", reason=name, peak_at=name, notes=(name,), sites=sites,
                  breakdown=Breakdown(activations_bytes=1))  # fmt: skip
    for line in lines_of(test, environment=Environment(mode=name, gpu=name), width=80):
        line.encode("utf-8")
        assert line.isprintable()
        assert not line.lstrip().startswith("::")
        assert "##[" not in line
        assert "##vso[" not in line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", "a\\nb"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\u202e", "\\u202e"),
        ("::error::x", "\\::error::x"),
        ("##[group]", "#\\#[group]"),
        ("test[a::b]", "test[a::b]"),
        ("日本", "日本"),
    ],
)
def test_what_is_made_visible(text, shown):
    assert visible(text) == shown
