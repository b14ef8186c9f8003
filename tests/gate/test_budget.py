"""Budgets: read, merged, turned into bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_memreq import Budget, MemreqError
from pytest_memreq.gate.budget import NO_BUDGET, parse_budget, parse_marker

LIMITS = st.none() | st.integers(0, 2**40) | st.floats(0.01, 1.0)
BUDGETS = st.builds(Budget, requested=LIMITS, allocated=LIMITS, reserved=LIMITS, device=LIMITS)


def test_the_first_limit_is_on_allocated():
    assert parse_marker(["1 GiB"], {}, where="") == Budget(allocated=2**30)
    assert parse_marker([], {"limit": "1 GiB"}, where="") == Budget(allocated=2**30)


def test_each_metric_has_its_keyword():
    given_limits = {"requested": 1, "allocated": "2 B", "reserved": "50%", "gpu": "L4"}
    budget = parse_marker([], given_limits, where="")
    assert budget == Budget(requested=1, allocated=2, reserved=0.5, gpu="L4")


def test_errors_name_place_metric_and_value():
    with pytest.raises(MemreqError, match=r"^here, reserved: '1,5 GiB' is not a limit; write"):
        parse_budget({"reserved": "1,5 GiB"}, where="here")


def test_a_share_needs_a_card():
    with pytest.raises(MemreqError, match="80% of the card, whose capacity is not known"):
        Budget(allocated=0.8).in_bytes(None)


def test_a_share_is_rounded_down():
    assert Budget(allocated=0.5).in_bytes(1001) == Budget(allocated=500)


@given(BUDGETS, BUDGETS, BUDGETS)
def test_merging_is_associative_and_the_nearest_wins(a, b, c):
    assert a.over(b).over(c) == a.over(b.over(c))
    assert a.over(NO_BUDGET) == NO_BUDGET.over(a) == a
    merged = a.over(b)
    for metric in ("requested", "allocated", "reserved", "device"):
        nearest = a.of(metric)
        assert merged.of(metric) == (b.of(metric) if nearest is None else nearest)


@given(BUDGETS, st.integers(1, 2**45))
def test_bytes_never_exceed_the_share(budget, card_bytes):
    resolved = budget.in_bytes(card_bytes)
    for metric in ("requested", "allocated", "reserved", "device"):
        limit = budget.of(metric)
        if isinstance(limit, float):
            assert resolved.of(metric) <= limit * card_bytes
        else:
            assert resolved.of(metric) == limit
