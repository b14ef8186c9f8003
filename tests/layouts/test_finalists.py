"""Finalists: the modules they are made of, what is simulated of each, and what cannot be."""

import resource
from dataclasses import replace
from itertools import accumulate

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pytest_memreq import Transformer, simulate
from pytest_memreq.estimate.formula import requirement, setup_of
from pytest_memreq.estimate.optimizers import optimizer_of
from pytest_memreq.layouts.decoder import Decoder
from pytest_memreq.layouts.finalists import (
    MIXED,
    PRECISIONS,
    Training,
    chosen,
    marked,
    simulated,
    why_not,
)
from pytest_memreq.layouts.judging import judge
from pytest_memreq.layouts.layout import Layout
from pytest_memreq.layouts.training import step_of

CARD = "NVIDIA H100 80GB HBM3"
LLAMA = Transformer(
    layers=2,
    hidden=512,
    heads=8,
    kv_heads=4,
    vocabulary=4096,
    feed_forward=1024,
    gated=True,
    qkv_bias=False,
    output_bias=False,
    feed_forward_bias=False,
    norm_bias=False,
    tied_embeddings=False,
    dropout=False,
    fused_attention=True,
)
GPT = Transformer(layers=2, hidden=512, heads=8, vocabulary=4096, positions=256)
GEMMA = replace(LLAMA, tied_embeddings=True, norms=4, fused_attention=False, head_norms=True)
IN_FULL = Training(tokens=128, precision="fp32", rule=optimizer_of("adamw"))

pytestmark = [
    # Of torch, about what it uses of itself and about gradients of DDP that go another way.
    *map(pytest.mark.filterwarnings, ("ignore::DeprecationWarning", "ignore::FutureWarning")),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


# The modules


@given(
    layers=st.integers(1, 3),
    kv_heads=st.sampled_from((None, 1, 2)),
    head_size=st.sampled_from((None, 12)),
    positions=st.sampled_from((0, 50)),
    norms=st.integers(2, 4),
    flags=st.fixed_dictionaries(
        dict.fromkeys(
            (
                *("gated", "tied_embeddings", "qkv_bias", "output_bias", "feed_forward_bias"),
                *("norm_bias", "head_norms", "dropout", "fused_attention"),
            ),
            st.booleans(),
        )
    ),
)
def test_a_decoder_has_the_parameters_that_the_formulas_count(
    layers, kv_heads, head_size, positions, norms, flags
):
    model = Transformer(
        layers=layers,
        hidden=32,
        heads=4,
        vocabulary=100,
        kv_heads=kv_heads,
        head_size=head_size,
        positions=positions,
        norms=norms,
        **flags,
    )
    with torch.device("meta"):
        decoder = Decoder(model, recompute="none")
    assert sum(each.numel() for each in decoder.parameters()) == model.parameters


@pytest.mark.parametrize("recompute", ["none", "selective"])
@pytest.mark.parametrize("model", [LLAMA, GPT, GEMMA], ids=("llama", "gpt", "gemma"))
def test_a_decoder_gives_logits_of_each_token(model, recompute):
    """On numbers: a shape that only fits by chance would pass on none."""
    decoder = Decoder(replace(model, layers=1), recompute=recompute)
    logits = decoder(torch.randint(model.vocabulary, (2, 16)))
    assert logits.shape == (2, 16, model.vocabulary)
    assert logits.isfinite().all()
    logits.sum().backward()
    assert all(each.grad is not None for each in decoder.parameters())


# What is simulated

LAYOUTS = {
    "one card": Layout(ranks=1),
    "DDP": Layout(ranks=8),
    "ZeRO-2": Layout(ranks=8, zero=2),
    "ZeRO-3": Layout(ranks=8, zero=3, recompute="full"),
    "tensor": Layout(ranks=4, tensor=4),
    "ZeRO-3 and tensor": Layout(ranks=8, zero=3, tensor=4, recompute="full"),
    "offload": Layout(ranks=8, zero=3, offload="cpu"),
}


@pytest.mark.parametrize("model", [LLAMA, GPT], ids=("llama", "gpt"))
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_rank_holds_the_states_that_the_formulas_give_it(name, model):
    layout = LAYOUTS[name]
    setup = setup_of(
        optimizer="adamw",
        precision="fp32",
        batch_size=1,
        sequence_length=128,
        recompute=layout.recompute,
        # FSDP keeps parameters divided beside the copies it gathers, with ZeRO-2 too.
        parallelism=replace(layout, zero=3).parallelism if layout.zero == 2 else layout.parallelism,
    )
    formula = requirement(model, setup).breakdown
    found = simulate(step_of(model, layout, IN_FULL), gpu=CARD, world_size=layout.ranks).breakdown
    for word in ("parameters", "optimizer_states"):
        size_bytes = getattr(formula, f"{word}_bytes")
        # A shard of a vector is less than a block of the allocator, which is whole.
        assert getattr(found, f"{word}_bytes") == pytest.approx(size_bytes, rel=0.01), word


@pytest.mark.parametrize("tensor", [1, 4])
@pytest.mark.parametrize(
    ("model", "recompute", "precision"),
    [
        *(
            (GPT, recompute, precision)
            for recompute in ("none", "selective")
            for precision in ("fp32", "bf16")
        ),
        (replace(GPT, dropout=False, gated=True), "none", "bf16"),
        (LLAMA, "none", "bf16"),
    ],
)
def test_a_rank_keeps_the_activations_that_the_formulas_count(model, recompute, precision, tensor):
    layout = Layout(ranks=tensor, tensor=tensor, recompute=recompute, batch=32)
    setup = setup_of(
        optimizer="adamw",
        precision=precision,
        batch_size=32,
        sequence_length=128,
        recompute=recompute,
        parallelism=layout.parallelism,
    )
    training = replace(IN_FULL, precision=precision)
    found = simulate(step_of(model, layout, training), gpu=CARD, world_size=tensor).breakdown
    # What comes of a collective is not counted as an activation.
    kept = found.activations_bytes + found.other_bytes
    formula = requirement(model, setup).breakdown.activations_bytes
    assert kept == pytest.approx(formula, rel=0.005)
    assert tensor > 1 or found.other_bytes < 2**20


def peak(layout, precision="mixed", model=LLAMA):
    training = replace(IN_FULL, precision=precision)
    found = marked(model, judge_of(model, layout), training)
    found = simulated(model, found, training, gpu=CARD, metric="allocated")
    assert found.not_simulated is None
    return found.simulated_bytes


def judge_of(model, layout):
    setup = setup_of(optimizer="adamw", precision="mixed", batch_size=1, sequence_length=128)
    return judge(model, layout, setup, 80 * 2**30)


def test_each_choice_takes_less_of_the_card():
    choices = (
        *({"zero": 0}, {"zero": 1}, {"zero": 2}, {"zero": 3}),
        {"recompute": "full"},
        {"offload": "cpu"},
        {"tensor": 4},
    )
    layouts = accumulate(choices, lambda a, b: {**a, **b})
    peaks = [peak(Layout(ranks=8, batch=64, **layout)) for layout in layouts]
    assert peaks == sorted(set(peaks), reverse=True)


def test_the_core_of_attention_is_not_kept_with_selective_recomputation():
    kept, selective = (
        peak(Layout(ranks=1, batch=32, recompute=recompute), model=GPT)
        for recompute in ("none", "selective")
    )
    assert selective < kept


@pytest.mark.parametrize("zero", [0, 3])
def test_half_precision_takes_less_in_every_way_that_torch_has(zero):
    layout = Layout(ranks=4, zero=zero, batch=64)
    peaks = {precision: peak(layout, precision) for precision in PRECISIONS}
    assert peaks["fp16"] == peaks["bf16"] < min(peaks["mixed"], peaks["autocast"])
    assert max(peaks["mixed"], peaks["autocast"]) < peaks["fp32"]
    assert len({peaks[name] for name in MIXED}) == 1


@pytest.mark.parametrize("optimizer", ["sgd(momentum=0.9)", "adam(amsgrad=True, fused=False)"])
def test_an_optimizer_has_the_options_that_were_written(optimizer):
    rule = optimizer_of(optimizer)
    made = Training(tokens=1, precision="fp32", rule=rule).optimizer([torch.ones(1)])
    for name, value in rule.options:
        assert made.defaults[name] == value


def test_what_is_offloaded_fills_no_memory_of_this_machine():
    """Each rank has 1.2 GB of gradients on the host."""
    large = replace(GPT, layers=3, hidden=4096, heads=32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak(Layout(ranks=2, zero=3, offload="cpu"), model=large)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 5 * 10**5  # KiB


# What cannot be simulated


@pytest.mark.parametrize(
    ("model", "layout", "training", "why"),
    [
        ({}, {}, {}, None),
        ({}, {"zero": 3, "tensor": 2, "offload": "cpu"}, {}, None),
        ({"experts": 4, "experts_per_token": 1}, {}, {}, "experts have no module here"),
        ({"head_bias": True}, {}, {}, "a head with a bias"),
        ({"norms": 5}, {}, {}, "5 norms in a block"),
        ({}, {"zero": 1, "offload": "cpu"}, {}, "torch offloads with FSDP alone"),
        ({}, {"zero": 1, "tensor": 2}, {}, "DistributedDataParallel is not simulated with tensor"),
        ({}, {"zero": 0, "tensor": 8}, {}, None),
        ({}, {}, {"precision": "fp8"}, "fp8 is none of torch's"),
        ({}, {}, {"rule": optimizer_of("adam8bit")}, "adam8bit is not simulated here"),
    ],
)
def test_what_has_no_counterpart_says_why(model, layout, training, why):
    found = why_not(
        replace(LLAMA, **{"kv_heads": 8, **model}),
        Layout(ranks=8, **layout),
        replace(IN_FULL, **training),
    )
    assert (found is None) if why is None else found.startswith(why)


def test_finalists_are_the_best_that_fit_and_can_be_simulated():
    layouts = [Layout(ranks=8, zero=zero, tensor=t) for zero in (0, 1, 3) for t in (1, 4)]
    found = [marked(LLAMA, judge_of(LLAMA, layout), IN_FULL) for layout in layouts]
    names = [(each.layout.zero, each.layout.tensor) for each in chosen(found, 3)]
    assert names == [(3, 4), (3, 1), (1, 1)]
    assert not chosen((replace(each, limit_bytes=1) for each in found), 3)


def test_what_torch_refuses_is_said_and_not_raised():
    layout = Layout(ranks=2, batch=2**62)
    found = replace(judge_of(LLAMA, Layout(ranks=2)), layout=layout)
    refused = simulated(LLAMA, found, IN_FULL, gpu=CARD)
    assert refused.simulated_bytes is None
    assert refused.not_simulated
    assert "\n" not in refused.not_simulated
