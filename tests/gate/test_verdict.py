"""Verdicts: from figures alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_memreq import Budget
from pytest_memreq.gate.verdict import describe_site, failure_message, judge
from pytest_memreq.requirement import Peak, Site

GIB = 2**30


@pytest.mark.parametrize(
    ("peak_bytes", "word"), [(GIB - 1, "within"), (GIB, "within"), (GIB + 1, "over")]
)
def test_the_budget_itself_is_within(peak_bytes, word):
    verdict = judge(Peak(allocated_bytes=peak_bytes), Budget(allocated=GIB))
    assert verdict.word == word


def test_an_excess_names_metric_peak_budget_and_difference():
    verdict = judge(Peak(reserved_bytes=3 * GIB), Budget(reserved=2 * GIB))
    assert verdict.reason == (
        "reserved peak 3.00 GiB (3,221,225,472 bytes) is over the budget of 2.00 GiB "
        "(2,147,483,648 bytes) by 1.00 GiB (1,073,741,824 bytes)"
    )


def test_every_excess_is_named():
    verdict = judge(Peak(allocated_bytes=20, reserved_bytes=30), Budget(allocated=10, reserved=10))
    assert "allocated peak 20 bytes" in verdict.reason
    assert "reserved peak 30 bytes" in verdict.reason


def test_an_unknown_figure_is_unchecked_and_never_within():
    verdict = judge(Peak(allocated_bytes=1), Budget(allocated=10, device=10))
    assert (verdict.word, verdict.reason) == ("unchecked", "the device peak is not known")


def test_what_is_known_to_be_over_stays_over():
    verdict = judge(Peak(allocated_bytes=11), Budget(allocated=10, device=10))
    assert verdict.word == "over"


def test_the_tightest_limit_is_the_one_shown():
    verdict = judge(Peak(allocated_bytes=5, reserved_bytes=9), Budget(allocated=10, reserved=10))
    assert verdict.reason == "reserved peak 9 bytes, 1 B to spare"


def test_without_a_budget_nothing_is_exceeded():
    assert judge(Peak(allocated_bytes=5), Budget()).reason == "no budget was set"


@given(st.integers(0, 2**50), st.integers(0, 2**50), st.integers(0, 2**50))
def test_a_larger_budget_never_turns_within_into_over(peak_bytes, limit, more):
    peak = Peak(allocated_bytes=peak_bytes)
    if judge(peak, Budget(allocated=limit)).word == "within":
        assert judge(peak, Budget(allocated=limit + more)).word == "within"


def test_the_message_has_the_test_the_reason_and_the_three_largest():
    sites = [
        Site(
            bytes=size * GIB,
            category="activations",
            module=f"layers.{size}",
            operator="aten.mm",
            source="model.py:88",
            shape=(8, 2048),
            dtype="float32",
            count=2,
        )
        for size in (4, 3, 2, 1)
    ]
    lines = failure_message("test_a.py::test_a", "allocated peak ...", sites).splitlines()
    assert lines[0] == "test_a.py::test_a: allocated peak ..."
    assert [line.split()[0] for line in lines[2:]] == ["4.00", "3.00", "2.00"]


def test_a_site_shows_only_what_is_known():
    assert describe_site(Site(bytes=GIB, category="other")) == "  1.00 GiB other"
    full = Site(
        bytes=GIB, category="parameters", module="head", shape=(2, 3), dtype="bfloat16", count=4
    )
    assert describe_site(full) == "  1.00 GiB parameters  head  4 x (2, 3) bfloat16"
