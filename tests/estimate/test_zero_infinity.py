"""ZeRO-Infinity's closed forms, and the general formulas where the two count the same."""

import pytest

from pytest_memreq.estimate import Parallelism, Transformer, estimate
from pytest_memreq.estimate import zero_infinity as paper

TB, GB = 2**40, 2**30  # as the paper counts them
TOKENS = 1024
# Figure 2(a) (arXiv 2104.07857): layers, hidden in units of 1024, heads; trillions of parameters,
# model states TB, activations of 64 sequences TB, checkpoints of 32 TB, working memory of model
# states and, for 4 sequences, of activations GB. Recalled, not copied: see docs/formulas.md.
FIGURE_2A = {
    (80, 10, 128): (0.10, 1.83, 2.03, 0.05, None, 1.63),
    (100, 20, 160): (0.50, 9.16, 3.91, 0.12, 6.25, 2.50),
    (128, 25, 256): (1.01, 18.31, 7.13, 0.20, 9.77, 3.56),
    (195, 64, 512): (10.05, 182.81, 24.38, 0.76, 64.00, 8.00),
    (315, 160, 1024): (101.47, 1845.70, 88.59, 3.08, 400.00, 18.00),
}


@pytest.mark.parametrize("shape", FIGURE_2A, ids=str)
def test_figure_2a(shape):
    layers, thousands, heads = shape
    hidden = 1024 * thousands
    sizes = {"tokens": TOKENS, "hidden": hidden}
    computed = (
        paper.parameters(layers=layers, hidden=hidden) / 1e12,
        paper.model_state_bytes(layers=layers, hidden=hidden) / TB,
        layers * paper.activation_working_bytes(sequences=64, heads=heads, **sizes) / TB,
        paper.checkpoint_bytes(sequences=32, layers=layers, **sizes) / TB,
        paper.model_state_working_bytes(hidden=hidden) / GB,
        paper.activation_working_bytes(sequences=4, heads=heads, **sizes) / GB,
    )
    for ours, printed in zip(computed, FIGURE_2A[shape], strict=True):
        assert printed is None or ours == pytest.approx(printed, abs=0.0051)


def plain(layers, hidden, heads):
    """A transformer of matrices alone, but for what is around its blocks."""
    return Transformer(
        layers=layers,
        hidden=hidden,
        heads=heads,
        vocabulary=1,
        qkv_bias=False,
        output_bias=False,
        feed_forward_bias=False,
        norms=0,
        norm_bias=False,
        dropout=False,
    )


@pytest.mark.parametrize("shape", FIGURE_2A, ids=str)
def test_the_general_formulas_say_the_same(shape):
    layers, thousands, heads = shape
    hidden = 1024 * thousands
    model = plain(layers, hidden, heads)
    around = 2 * hidden  # an embedding of one token, the last norm
    assert model.parameters - around == paper.parameters(layers=layers, hidden=hidden)
    states = paper.model_state_bytes(layers=layers, hidden=hidden)
    assert estimate(model).total_bytes - 20 * around == states

    needed = estimate(
        model,
        batch_size=32,
        sequence_length=TOKENS,
        recompute="full",
        parallelism=Parallelism(data=2, zero=3),
    ).breakdown
    head = 32 * TOKENS * (2 * 2 * hidden + 4)
    checkpoints = paper.checkpoint_bytes(sequences=32, tokens=TOKENS, hidden=hidden, layers=layers)
    assert needed.activations_bytes - head == checkpoints
    recomputed = estimate(model, batch_size=32, sequence_length=TOKENS, recompute="full").breakdown
    gathered = needed.temporaries_bytes - recomputed.temporaries_bytes
    assert gathered == paper.model_state_working_bytes(hidden=hidden)


def test_checkpoints_further_apart_are_fewer():
    sizes = {"sequences": 4, "tokens": 128, "hidden": 64}
    every, second = (
        paper.checkpoint_bytes(layers=12, blocks_between=between, **sizes) for between in (1, 2)
    )
    assert every == 2 * second
    work = {**sizes, "heads": 2}
    assert paper.activation_working_bytes(
        blocks_between=2, **work
    ) == 2 * paper.activation_working_bytes(**work)
