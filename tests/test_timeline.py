"""Thinning: fewer points, the same extremes."""

from hypothesis import given
from hypothesis import strategies as st

from pytest_memreq.timeline import extremes, thin_out

SIZES = st.lists(st.integers(0, 50), min_size=1, max_size=400)


@given(SIZES, st.integers(4, 60))
def test_the_peak_and_the_ends_are_kept_in_order(sizes, most):
    kept = extremes(sizes, most)
    assert sizes.index(max(sizes)) in kept  # where it was first reached
    assert {0, len(sizes) - 1} <= set(kept)
    assert min(sizes[at] for at in kept) == min(sizes)
    assert len(kept) <= max(most, 0)
    assert list(kept) == sorted(set(kept))


@given(SIZES, st.integers(4, 60))
def test_points_are_some_of_those_given(sizes, most):
    points = [(7 * at, size) for at, size in enumerate(sizes)]
    thin = thin_out(points, most)
    assert set(thin) <= set(points)
    assert len(sizes) > most or list(thin) == points


def test_nothing_is_nothing():
    assert thin_out(()) == ()
