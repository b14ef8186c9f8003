"""Activations of transformers: Korthikanti's table 2 and savings, and what goes beyond it."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pytest_memreq.errors import MemreqError
from pytest_memreq.estimate import Parallelism, Transformer, estimate
from pytest_memreq.estimate.activations import Work, block_activations, block_bytes

# Korthikanti et al. (arXiv 2205.05198), table 3: heads, hidden, layers, tensor-parallel ranks.
MODELS = {
    "22B": (64, 6144, 48, 8, 4),
    "175B": (96, 12288, 96, 8, 1),
    "530B": (128, 20480, 105, 8, 1),
    "1T": (160, 25600, 128, 8, 1),
}
TOKENS = 2048


def model_of(name):
    heads, hidden, layers, *_ = MODELS[name]
    return Transformer(layers=layers, hidden=hidden, heads=heads, vocabulary=51200)


def work_of(sequences, recompute, tokens=TOKENS):
    return Work(sequences=sequences, tokens=tokens, compute_bytes=2, recompute=recompute)


def table_2(s, b, h, a, t, *, sequence, recompute):
    """Bytes a layer as the paper's table 2 writes them."""
    if recompute == "full":
        return 2 * s * b * h
    core = 0 if recompute == "selective" else Fraction(5 * a * s, h)
    if sequence:
        return Fraction(s * b * h, t) * (34 + core)
    return s * b * h * (10 + Fraction(24, t) + core / t)


@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
@pytest.mark.parametrize("sequence", [False, True])
@pytest.mark.parametrize("tensor", [1, 2, 8])
@pytest.mark.parametrize("name", MODELS)
def test_a_layers_bytes_are_those_of_the_papers_table(name, tensor, sequence, recompute):
    heads, hidden, _, _, sequences = MODELS[name]
    is_divided = sequence and tensor > 1
    degrees = Parallelism(tensor=tensor, sequence=is_divided)
    ours = block_bytes(model_of(name), work_of(sequences, recompute), degrees)
    expected = table_2(
        TOKENS, sequences, hidden, heads, tensor, sequence=is_divided, recompute=recompute
    )
    assert ours == expected


def test_attentions_core_is_most_of_gpt_3():
    """5 a s / h is 80 for GPT-3 and 64 for MT-NLG (section 5): 70 % and 65 % of the whole."""
    for name, factor, share in (("175B", 80, 0.70), ("530B", 64, 0.65)):
        heads, hidden, *_ = MODELS[name]
        assert 5 * heads * TOKENS == factor * hidden
        whole, kept = (
            block_bytes(model_of(name), work_of(1, recompute), Parallelism())
            for recompute in ("none", "selective")
        )
        assert 1 - kept / whole == pytest.approx(share, abs=0.005)


@pytest.mark.parametrize("name", MODELS)
def test_savings_of_figure_7(name):
    """Relative to tensor parallelism alone: either technique about half, both about a fifth."""
    *_, tensor, sequences = MODELS[name]
    whole, sequence, selective, both, full = (
        block_bytes(
            model_of(name),
            work_of(sequences, recompute),
            Parallelism(tensor=tensor, sequence=is_divided),
        )
        for is_divided, recompute in (
            (False, "none"),
            (True, "none"),
            (False, "selective"),
            (True, "selective"),
            (False, "full"),
        )
    )
    assert 0.4 < sequence / whole < 0.68
    assert 0.4 < selective / whole < 0.62
    assert both / whole < 0.21
    assert 0.07 < full / whole < 0.11


def test_the_first_of_eight_stages_holds_as_if_all_layers_were_there():
    """GPT-3 on 8 x 8 ranks: the first holds p micro-batches of L / p layers (section 4.2.3)."""
    degrees = Parallelism(tensor=8, sequence=True, pipeline=8)
    needed = estimate(
        model_of("175B"), sequence_length=TOKENS, recompute="selective", parallelism=degrees
    )
    first = next(share for share in needed.ranks if share.stage == 0)
    numbers = TOKENS * 12288
    assert first.breakdown.activations_bytes == 96 * 34 * numbers // 8 + 8 * numbers // 8
    last = next(share for share in needed.ranks if share.stage == 7)
    head = 4 * numbers // 8 + 4 * TOKENS * 51200 // 8
    assert last.breakdown.activations_bytes == 12 * 34 * numbers // 8 + head


def test_what_is_recomputed_needs_room_while_it_is():
    model = model_of("22B")
    none, selective, full = (
        estimate(model, sequence_length=64, recompute=recompute).breakdown
        for recompute in ("none", "selective", "full")
    )
    numbers, core = 64 * 6144, 5 * 64 * 64 * 64
    assert none.temporaries_bytes == 0
    assert selective.temporaries_bytes == core
    assert full.temporaries_bytes == 34 * numbers + core - 2 * numbers
    assert none.activations_bytes - selective.activations_bytes == 48 * core
    assert none.inputs_bytes == 2 * 64 * 8


def names_of(**more):
    model = Transformer(layers=1, hidden=64, heads=4, vocabulary=96, **more)
    kept = block_activations(model, work_of(3, "none", 16), has_experts=bool(model.experts))
    return {activation.name: activation.bytes for activation in kept}


def test_fused_attention_keeps_a_number_of_each_row():
    plain, fused = names_of(), names_of(fused_attention=True)
    assert fused.pop("logsumexp") == 4 * 4 * 3 * 16
    core = {"softmax", "mask of its dropout", "dropout of softmax"}
    assert fused == {name: size for name, size in plain.items() if name not in core}


def test_shared_key_heads_gates_and_experts_change_what_they_are_about():
    plain = names_of()
    assert names_of(kv_heads=1)["keys and values"] * 4 == plain["keys and values"]
    numbers = 3 * 16
    assert names_of(gated=True, feed_forward=80)["feed-forward"] == 4 * numbers * 80 * 2
    experts = names_of(experts=8, experts_per_token=2, expert_feed_forward=40)
    assert experts["experts"] == 2 * 2 * numbers * 40 * 2
    assert experts["tokens of experts"] == 2 * numbers * 64 * 2
    assert experts["router"] == numbers * 8 * 4
    assert "masks of dropout" not in names_of(dropout=False)


class Gated(nn.Module):
    """A feed-forward network as Llama has it."""

    def __init__(self, hidden, width):
        super().__init__()
        self.gate, self.up = (nn.Linear(hidden, width, bias=False) for _ in range(2))
        self.down = nn.Linear(width, hidden, bias=False)

    def forward(self, x):
        return self.down(nn.functional.silu(self.gate(x)) * self.up(x))


class Plain(nn.Module):
    """A feed-forward network as GPT-2 has it."""

    def __init__(self, hidden, width):
        super().__init__()
        self.up, self.down = nn.Linear(hidden, width), nn.Linear(width, hidden)

    def forward(self, x):
        return self.down(nn.functional.gelu(self.up(x)))


@pytest.mark.parametrize("network", [Gated, Plain])
def test_a_network_keeps_what_autograd_keeps_of_a_real_one(network):
    module, x = network(64, 80), torch.randn(48, 64, requires_grad=True)
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = module(x)
    weights = {p.untyped_storage().data_ptr() for p in module.parameters()}
    real = sum(size for key, size in kept.items() if key not in weights)
    model = Transformer(
        layers=1,
        hidden=64,
        heads=4,
        vocabulary=96,
        gated=network is Gated,
        feed_forward=80,
    )
    work = Work(sequences=3, tokens=16, compute_bytes=4)
    ours = {a.name: a.bytes for a in block_activations(model, work, has_experts=False)}
    assert real == ours["feed-forward"] + ours["feed-forward input"]
    assert out.shape == x.shape


@settings(max_examples=60)
@given(
    sequences=st.integers(1, 8),
    tokens=st.sampled_from([16, 32, 64]),
    tensor=st.sampled_from([1, 2, 4]),
    sequence=st.booleans(),
    recompute=st.sampled_from(["none", "selective", "full"]),
)
def test_more_work_never_needs_less_and_recomputing_never_keeps_more(
    sequences, tokens, tensor, sequence, recompute
):
    model = Transformer(layers=3, hidden=64, heads=4, vocabulary=96)
    degrees = Parallelism(tensor=tensor, sequence=sequence and tensor > 1)

    def kept(sequences, tokens, recompute):
        return estimate(
            model,
            batch_size=sequences,
            sequence_length=tokens,
            recompute=recompute,
            parallelism=degrees,
        )

    here = kept(sequences, tokens, recompute)
    assert here.total_bytes < kept(sequences + 1, tokens, recompute).total_bytes
    assert here.total_bytes < kept(sequences, tokens + 16, recompute).total_bytes
    if recompute != "full" or tensor == 1:
        whole = kept(sequences, tokens, "none").breakdown.activations_bytes
        assert here.breakdown.activations_bytes <= whole


def test_a_cache_of_keys_and_values():
    """Llama 2 70B: 80 layers x 8 heads x 128, keys and values, 2 bytes: 320 KiB a token."""
    model = Transformer(layers=80, hidden=8192, heads=64, kv_heads=8, vocabulary=32000, gated=True)
    setup = {"task": "inference", "precision": "bf16", "batch_size": 3}
    needed = estimate(model, sequence_length=4096, **setup)
    assert needed.breakdown.activations_bytes == 320 * 1024 * 4096 * 3
    assert needed.breakdown.gradients_bytes == 0
    divided = estimate(
        model, sequence_length=4096, parallelism=Parallelism(tensor=8), **setup
    ).breakdown
    assert divided.activations_bytes * 8 == needed.breakdown.activations_bytes
    assert estimate(model, **setup).breakdown.activations_bytes is None


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"sequence_length": 0}, "sequence_length=0 is not a whole number of 1 or more"),
        ({"sequence_length": 33}, "sequence_length=33 is more than the model's 32 positions"),
    ],
)
def test_a_sequence_must_fit_the_model(asked, said):
    model = Transformer(layers=1, hidden=8, heads=2, vocabulary=16, positions=32)
    with pytest.raises(MemreqError) as error:
        estimate(model, **asked)
    assert str(error.value) == said
