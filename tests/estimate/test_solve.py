"""The largest that fits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_memreq.errors import MemreqError
from pytest_memreq.estimate import Solution, Transformer, estimate, solve


@given(
    slope=st.integers(1, 10**6),
    fixed=st.integers(0, 10**9),
    budget=st.integers(0, 10**12),
    step=st.integers(1, 64),
)
def test_it_fits_and_the_next_does_not(slope, fixed, budget, step):
    def needs(value):
        return fixed + slope * value

    found = solve(needs, budget, step=step)
    assert found.value % step == 0
    assert found.needed_bytes == needs(found.value)
    assert needs(found.value + step) > budget
    assert found.fits == (needs(step) <= budget)
    assert found.fits or found.value == step
    assert found.spare_bytes == budget - found.needed_bytes


@given(largest=st.integers(1, 1000), budget=st.integers(0, 2000))
def test_it_never_asks_beyond_the_largest(largest, budget):
    asked = []

    def needs(value):
        asked.append(value)
        return value

    found = solve(needs, budget, largest=largest)
    assert max(asked) <= largest
    assert found.value == max(1, min(largest, budget))


def test_it_asks_few_times():
    """A simulation may answer: each question takes seconds."""
    asked = []
    found = solve(lambda value: asked.append(value) or 3 * value, 1000)
    assert found == Solution(value=333, needed_bytes=999, budget_bytes=1000)
    assert len(asked) <= 2 * 9 + 1


def test_a_need_that_does_not_grow_is_an_error():
    with pytest.raises(MemreqError, match="any number fits the budget"):
        solve(lambda _: 5, 10)
    with pytest.raises(MemreqError, match="nothing to solve for: the largest is 3, the step 4"):
        solve(lambda value: value, 10, step=4, largest=3)


def test_the_largest_batch_of_a_transformer():
    model = Transformer(layers=2, hidden=64, heads=4, vocabulary=128)

    def needs(batch):
        return estimate(model, batch_size=batch, sequence_length=32).total_bytes

    found = solve(needs, 2**30)
    assert needs(found.value) <= 2**30 < needs(found.value + 1)
