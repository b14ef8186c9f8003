"""Layouts by formula: which there are, what each is held to be, and their order."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_memreq import MemreqError, Transformer, estimate
from pytest_memreq.estimate.formula import setup_of
from pytest_memreq.layouts.grid import Axes, grid_of
from pytest_memreq.layouts.judging import Judged, fits, judge, ranked
from pytest_memreq.layouts.layout import Layout

MODEL = Transformer(
    layers=2, hidden=64, heads=8, kv_heads=4, vocabulary=256, dropout=False, fused_attention=True
)
CORE_KEPT = Transformer(layers=2, hidden=64, heads=8, vocabulary=256)
SETUP = setup_of(optimizer="adam", precision="mixed", batch_size=1, sequence_length=32)


def layouts_of(model=MODEL, **axes):
    return grid_of(model, Axes(**axes)).layouts


# The grid


def test_without_choices_all_are_tried_that_differ():
    found = layouts_of(ranks=8)
    assert {layout.tensor for layout in found} == {1, 2, 4}
    assert {(layout.zero, layout.offload) for layout in found} == {
        *((zero, "none") for zero in (0, 1, 2, 3)),
        *((zero, "cpu") for zero in (1, 2, 3)),
    }
    assert len(found) == 3 * 7 * 2 == len(set(found))


@pytest.mark.parametrize(
    ("model", "recompute"),
    [(MODEL, {"none", "full"}), (CORE_KEPT, {"none", "selective", "full"})],
)
def test_selective_recomputation_is_for_an_attention_that_keeps_scores(model, recompute):
    assert {layout.recompute for layout in layouts_of(model, ranks=8)} == recompute
    asked = layouts_of(MODEL, ranks=8, recompute=("selective",))
    assert {layout.recompute for layout in asked} == {"selective"}


def test_one_rank_with_the_data_has_nothing_to_divide():
    found = [layout for layout in layouts_of(ranks=4) if layout.tensor == 4]
    assert {(layout.zero, layout.offload) for layout in found} == {
        (0, "none"),
        *((zero, "cpu") for zero in (1, 2, 3)),
    }
    assert [layout.zero for layout in layouts_of(ranks=1, zero=(3, 2), offload=("none",))] == [2, 2]


def test_degrees_that_do_not_divide_are_left_out_and_named():
    found = grid_of(MODEL, Axes(ranks=2))
    assert {layout.tensor for layout in found.layouts} == {1, 2}
    assert found.left_out == (
        "tensor=4: ranks=2 does not divide by tensor=4",
        "tensor=8: ranks=2 does not divide by tensor=8",
    )
    assert "kv_heads=4 does not divide by tensor=8" in grid_of(MODEL, Axes(ranks=8)).left_out[0]


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ({"ranks": 8, "tensor": (8,)}, "kv_heads=4 does not divide by tensor=8"),
        ({"ranks": 8, "tensor": (3,)}, "ranks=8 does not divide by tensor=3"),
        ({"ranks": 8, "tensor": (0,)}, "tensor=0 is not a whole number of 1 or more"),
        ({"ranks": 0}, "ranks=0 is not a whole number of 1 or more"),
        ({"ranks": 8, "zero": (4,)}, "zero=4 is no ZeRO stage"),
        ({"ranks": 8, "zero": (0,), "offload": ("cpu",)}, "no layout is left: offload is ZeRO's"),
        ({"ranks": 8, "offload": ("disk",)}, "offload='disk' is not known; write one of none, cpu"),
        ({"ranks": 8, "recompute": ("some",)}, "recompute='some' is not known"),
        ({"ranks": 8, "batch": (0,)}, "batch=0 is not a whole number of 1 or more"),
    ],
)
def test_a_choice_that_is_not_possible_is_refused(axes, said):
    with pytest.raises(MemreqError, match=said):
        layouts_of(**axes)


@settings(max_examples=40)
@given(
    heads=st.sampled_from((4, 6, 8, 12, 16)),
    kv_heads=st.sampled_from((1, 2, 4)),
    ranks=st.integers(1, 64),
)
def test_every_layout_of_a_grid_can_be_judged_and_has_all_ranks(heads, kv_heads, ranks):
    model = Transformer(
        layers=1, hidden=8 * heads, heads=heads, kv_heads=min(kv_heads, heads // 2), vocabulary=256
    )
    layouts = layouts_of(model, ranks=ranks)
    for layout in layouts:
        assert layout.data * layout.tensor == layout.parallelism.ranks == ranks
    for layout in layouts[:: len(layouts) // 4]:
        assert judge(model, layout, SETUP, 10**9).estimated_bytes > 0


# What is offloaded


@pytest.mark.parametrize(
    ("zero", "words"),
    [
        (1, {"gradients", "optimizer_states"}),
        (2, {"gradients", "optimizer_states"}),
        (3, {"gradients", "optimizer_states", "parameters"}),
    ],
)
def test_parameters_leave_the_card_with_zero_3_alone(zero, words):
    layout = Layout(ranks=8, zero=zero, offload="cpu")
    assert layout.parallelism.offload == dict.fromkeys(words, "cpu")


# Judging


def test_a_layout_needs_what_estimate_says():
    layout = Layout(ranks=8, zero=3, tensor=2, recompute="full", offload="cpu", batch=4)
    found = judge(MODEL, layout, SETUP, 10**9)
    needed = estimate(
        MODEL,
        batch_size=4,
        sequence_length=32,
        recompute="full",
        parallelism=layout.parallelism,
    )
    assert found.estimated_bytes == needed.total_bytes
    assert found.cpu_bytes == needed.cpu_bytes > 0
    assert found.spare_bytes == 10**9 - needed.total_bytes
    assert layout.samples == 16


def test_the_largest_batch_is_the_last_that_fits():
    limit_bytes = 4 * 2**20
    found = judge(MODEL, Layout(ranks=8, zero=3), SETUP, limit_bytes)
    assert found.largest_batch > 1
    for batch, is_within in ((found.largest_batch, True), (found.largest_batch + 1, False)):
        needed = judge(MODEL, Layout(ranks=8, zero=3, batch=batch), SETUP, limit_bytes)
        assert needed.fits is is_within


def test_where_not_one_sample_fits_the_largest_batch_is_0():
    found = judge(MODEL, Layout(ranks=1), SETUP, 1000)
    assert (found.largest_batch, found.fits) == (0, False)


# The order


def judged(estimated, simulated=None, batch=1):
    return Judged(
        layout=Layout(ranks=1, batch=batch),
        limit_bytes=100,
        estimated_bytes=estimated,
        cpu_bytes=0,
        largest_batch=1,
        simulated_bytes=simulated,
    )


def test_finalists_come_first_by_what_was_simulated():
    rows = [judged(50), judged(10, 90), judged(20, 60), judged(120), judged(30, 101)]
    shown = [(each.estimated_bytes, each.spare_bytes) for each in ranked(rows)]
    assert shown == [(20, 40), (10, 10), (30, -1), (50, 50), (120, -20)]


SIZES = st.integers(1, 200)


@given(st.lists(st.tuples(SIZES, st.none() | SIZES), max_size=8))
def test_ranking_loses_nothing_and_is_by_what_is_left_over(sizes):
    rows = [judged(*pair, batch=at + 1) for at, pair in enumerate(sizes)]
    order = ranked(rows)
    assert sorted(order, key=lambda each: each.layout.batch) == rows
    for is_simulated in (True, False):
        spare = [r.spare_bytes for r in order if (r.simulated_bytes is not None) is is_simulated]
        assert spare == sorted(spare, reverse=True)


@pytest.mark.parametrize(
    ("rows", "answer"),
    [
        ([], False),
        ([judged(100)], True),
        ([judged(101)], False),
        ([judged(50, 101), judged(60, 100)], True),
        ([judged(50, 101), judged(60)], None),
        ([judged(50, 101), judged(101)], False),
    ],
)
def test_simulations_decide_where_there_are_any(rows, answer):
    assert fits(rows) is answer
