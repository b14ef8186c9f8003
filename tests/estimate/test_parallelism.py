"""What one rank holds: ZeRO's published figures, and that sharding loses no byte."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pytest_memreq.errors import MemreqError
from pytest_memreq.estimate import Parallelism, Transformer, estimate
from pytest_memreq.requirement import WORDS

# Rajbhandari et al., ZeRO (arXiv 1910.02054), table 1: GB on a device for 7.5B parameters.
TABLE_1 = {
    1: (120, 120, 120),
    4: (52.5, 41.3, 30),
    16: (35.6, 21.6, 7.5),
    64: (31.4, 16.6, 1.88),
    256: (30.4, 15.4, 0.47),
    1024: (30.1, 15.1, 0.12),
}


@pytest.mark.parametrize("ranks", TABLE_1)
@pytest.mark.parametrize("zero", [1, 2, 3])
def test_zeros_table_1(ranks, zero):
    needed = estimate(
        "7.5B", precision="mixed_half_gradients", parallelism=Parallelism(data=ranks, zero=zero)
    )
    printed = TABLE_1[ranks][zero - 1]
    digits = len(str(printed).partition(".")[2])
    assert abs(needed.total_bytes / 1e9 - printed) <= 0.5 * 10**-digits + 1e-9


# Table 2 there, theory: the largest model on 64 devices of 32 GB.
@pytest.mark.parametrize(
    ("zero", "count"), [(0, "2B"), (1, "7.6B"), (2, "14.4B"), (3, "128B")], ids=str
)
def test_zeros_table_2(zero, count):
    setup = {
        "precision": "mixed_half_gradients",
        "parallelism": Parallelism(data=64, zero=zero),
    }
    assert estimate(count, **setup).total_bytes / 1e9 == pytest.approx(32, rel=0.011)


DIVISORS = st.sampled_from([1, 2, 3, 4, 6])


@st.composite
def spread_transformers(draw):
    """A small transformer, and degrees that go with it."""
    tensor, expert, shards = draw(st.sampled_from([1, 2, 4])), draw(st.sampled_from([1, 2])), 0
    shards = expert * draw(st.integers(1, 5))
    layers = draw(st.integers(1, 7))
    pipeline = draw(st.integers(1, 3))
    cuts = sorted(draw(st.lists(st.integers(0, layers), min_size=pipeline, max_size=pipeline)))
    edges = [0, *cuts[: pipeline - 1], layers]
    stages = tuple(b - a for a, b in itertools.pairwise(edges))
    model = Transformer(
        layers=layers,
        hidden=tensor * 8 * draw(st.integers(1, 3)),
        heads=8,
        kv_heads=draw(st.sampled_from([4, 8])),
        vocabulary=4 * draw(st.integers(3, 40)),
        positions=draw(st.integers(0, 9)),
        gated=draw(st.booleans()),
        experts=2 * expert,
        experts_per_token=1,
        dense_layers=draw(st.integers(0, 2)),
        tied_embeddings=draw(st.booleans()),
    )
    zero = draw(st.integers(0, 3))
    degrees = Parallelism(
        data=shards * draw(st.integers(1, 3)),
        zero=zero,
        shard=shards if zero else None,
        tensor=tensor,
        pipeline=pipeline,
        stages=stages,
        expert=expert,
    )
    return model, degrees


def whole_elements(model, degrees):
    """(elements of which each tensor-parallel rank has its own part, those that all repeat)."""
    one, two = (
        sum(
            share.breakdown.parameters_bytes * share.ranks
            for share in estimate(
                model,
                parallelism=Parallelism(
                    tensor=tensor, pipeline=degrees.pipeline, stages=degrees.stages
                ),
            ).ranks
        )
        // 2
        for tensor in (1, 2)
    )
    repeated = two - one
    return one - repeated, repeated


@settings(max_examples=150, deadline=None)
@given(spread_transformers())
def test_sharding_loses_no_byte_and_adds_none(spread):
    """All ranks together hold each word once for every copy that the degrees ask for."""
    model, degrees = spread
    needed = estimate(model, parallelism=degrees, optimizer="sgd(momentum=0.9)")
    assert sum(share.ranks for share in needed.ranks) == degrees.ranks

    tied_again = model.tied_embeddings and degrees.pipeline > 1
    total = model.parameters + (model.vocabulary * model.hidden if tied_again else 0)
    divided, repeated = whole_elements(model, degrees)
    assert divided + repeated == total

    on_tensor_ranks = divided + repeated * degrees.tensor
    # Experts are on as few ranks as there are copies of all experts among the data-parallel ones.
    experts = expert_elements(model, degrees)
    for word, from_stage, size in (
        ("optimizer_states", 1, 12),
        ("gradients", 2, 2),
        ("parameters", 3, 2),
    ):
        held = sum(getattr(s.breakdown, f"{word}_bytes") * s.ranks for s in needed.ranks)
        copies = (
            degrees.data // degrees.shard_degree if degrees.zero >= from_stage else degrees.data
        )
        expert_copies = copies if degrees.zero >= from_stage else degrees.data // degrees.expert
        assert held == size * ((on_tensor_ranks - experts) * copies + experts * expert_copies)


def expert_elements(model, degrees):
    routed = model.layers - min(model.dense_layers, model.layers)
    matrices = 3 if model.gated else 2
    width, hidden = model.width, model.hidden
    inner = 2 if model.gated else 1
    biases = inner * width + hidden * degrees.tensor  # the last one is on every tensor rank
    return routed * model.experts * (matrices * hidden * width + biases)


@given(
    count=st.integers(1, 10**12),
    data=st.integers(1, 2000),
    zero=st.integers(0, 3),
    precision=st.sampled_from(["mixed", "fp32", "bf16", "fp8"]),
    optimizer=st.sampled_from(["adam", "sgd", "adam8bit"]),
)
def test_worst_first_and_equal_to_a_count(count, data, zero, precision, optimizer):
    setup = {"precision": precision, "optimizer": optimizer}
    alone = estimate(count, **setup)
    needed = estimate(count, **setup, parallelism=Parallelism(data=data, zero=zero))
    totals = [share.total_bytes for share in needed.ranks]
    assert totals == sorted(totals, reverse=True)
    for stage, word in ((1, "optimizer_states"), (2, "gradients"), (3, "parameters")):
        held = sum(getattr(s.breakdown, f"{word}_bytes") * s.ranks for s in needed.ranks)
        copies = 1 if zero >= stage else data
        assert held == copies * getattr(alone.breakdown, f"{word}_bytes")


def test_hybrid_sharding_repeats_what_a_group_shares():
    flat = estimate("1B", parallelism=Parallelism(data=8, zero=3))
    hybrid = estimate("1B", parallelism=Parallelism(data=64, zero=3, shard=8))
    assert hybrid.total_bytes == flat.total_bytes
    assert sum(share.ranks for share in hybrid.ranks) == 64


def test_what_is_offloaded_is_counted_where_it_is():
    offload = {"optimizer_states": "nvme", "gradients": "cpu", "parameters": "cpu"}
    needed = estimate("1B", parallelism=Parallelism(data=4, zero=3, offload=offload))
    assert needed.breakdown.optimizer_states_bytes == 0
    assert needed.breakdown.gradients_bytes == needed.breakdown.parameters_bytes == 0
    assert needed.cpu_bytes == 4 * 10**9 // 4
    assert needed.nvme_bytes == 16 * 10**9 // 4


@settings(max_examples=50)
@given(
    offload=st.dictionaries(
        st.sampled_from(["parameters", "gradients", "optimizer_states", "activations"]),
        st.sampled_from(["cpu", "nvme"]),
    ),
    zero=st.integers(0, 3),
)
def test_offloading_moves_bytes_and_loses_none(offload, zero):
    model = Transformer(layers=2, hidden=16, heads=2, vocabulary=64)
    here, there = (
        estimate(
            model,
            sequence_length=8,
            recompute="full",
            parallelism=Parallelism(data=2, zero=zero, offload=where),
        )
        for where in ({}, offload)
    )
    moved = sum(getattr(here.breakdown, f"{word}_bytes") for word in offload)
    assert there.cpu_bytes + there.nvme_bytes == here.cpu_bytes + moved
    gathered = there.breakdown.temporaries_bytes - here.breakdown.temporaries_bytes
    assert there.total_bytes == here.total_bytes - moved + gathered
    assert (gathered > 0) == (zero < 3 and "parameters" in offload)


def test_a_rank_that_holds_a_part_needs_room_for_the_largest_parameter():
    model = nn.Sequential(nn.Linear(10, 20, bias=False), nn.Linear(20, 5, bias=False))
    whole = estimate(model, parallelism=Parallelism(data=2, zero=2))
    parts = estimate(model, parallelism=Parallelism(data=2, zero=3))
    assert whole.breakdown.temporaries_bytes is None
    assert parts.breakdown.temporaries_bytes == 200 * (2 + 2)


def test_sharded_activations_of_a_module_stay_with_each_rank():
    model, x = nn.Linear(10, 20), torch.ones(1, 10)
    for zero in (0, 3):
        needed = estimate(model, x, batch_size=3, parallelism=Parallelism(data=4, zero=zero))
        assert needed.breakdown.activations_bytes == 3 * 4 * 30


def test_uneven_stages_are_told_apart_and_the_first_holds_most_micro_batches():
    model = Transformer(layers=7, hidden=64, heads=4, vocabulary=128)
    needed = estimate(
        model,
        sequence_length=32,
        parallelism=Parallelism(pipeline=3, stages=(2, 3, 2), microbatches=2),
    )
    by_stage = {share.stage: share for share in needed.ranks}
    block = 32 * 64 * 34 + 5 * 4 * 32 * 32
    head = 4 * 32 * 64 + 4 * 32 * 128
    kept = {stage: share.breakdown.activations_bytes for stage, share in by_stage.items()}
    assert kept == {0: 2 * (2 * block + 32 * 64), 1: 2 * 3 * block, 2: 2 * block + head}
    assert by_stage[0].breakdown.parameters_bytes != by_stage[2].breakdown.parameters_bytes
    assert needed.ranks[0].stage == 1


MOE = {"layers": 4, "hidden": 64, "heads": 8, "vocabulary": 128, "experts": 4}


@pytest.mark.parametrize(
    ("degrees", "said"),
    [
        ({"data": 0}, "data=0 is not a whole number of 1 or more"),
        ({"tensor": 1.5}, "tensor=1.5 is not a whole number"),
        ({"zero": 4}, "zero=4 is no ZeRO stage; write 0, 1, 2 or 3"),
        ({"zero": True}, "zero=True is no ZeRO stage"),
        ({"data": 8, "shard": 3, "zero": 3}, "data=8 does not divide by shard=3"),
        ({"data": 8, "shard": 4}, "shard=4 without sharding; add zero=1, 2 or 3"),
        ({"sequence": True}, "sequence parallelism is over the tensor-parallel ranks; add tensor"),
        ({"pipeline": 3}, "layers=4 does not divide by pipeline=3; give the layers of each stage"),
        ({"pipeline": 3, "stages": (2, 2)}, "stages=(2, 2) has 2 stages for pipeline=3"),
        ({"pipeline": 2, "stages": (2, 3)}, "stages=(2, 3) hold 5 of 4 layers"),
        ({"pipeline": 2, "stages": (5, -1)}, "layers of a stage=-1 is not a whole number of 0"),
        ({"tensor": 3}, "heads=8 does not divide by tensor=3"),
        ({"tensor": 8}, "kv_heads=4 does not divide by tensor=8"),
        ({"data": 8, "expert": 8}, "experts=4 does not divide by expert=8"),
        ({"data": 2, "expert": 4}, "the ranks that share a copy=2 does not divide by expert=4"),
        ({"offload": {"weights": "cpu"}}, "what to offload='weights' is not known; write one of"),
        ({"offload": {"gradients": "disk"}}, "where to offload gradients='disk' is not known"),
        ({"tensor": 2, "sequence": True}, "sequence_length=31 does not divide by tensor=2"),
    ],
)
def test_degrees_that_do_not_go_together_are_named(degrees, said):
    model = Transformer(**MOE, kv_heads=4, experts_per_token=2)
    with pytest.raises(MemreqError) as error:
        estimate(model, sequence_length=31, parallelism=Parallelism(**degrees))
    assert str(error.value).startswith(said)


def test_a_vocabulary_that_does_not_divide_is_to_be_padded():
    model = Transformer(layers=1, hidden=64, heads=4, vocabulary=50257)
    with pytest.raises(MemreqError, match=r"vocabulary=50257 does not .*; pad it, say to 50688"):
        estimate(model, parallelism=Parallelism(tensor=4))
    assert 50688 % (128 * 4) == 0
    dense = Transformer(layers=1, hidden=64, heads=4, vocabulary=64)
    with pytest.raises(MemreqError, match="expert=2 for a model without experts"):
        estimate(dense, parallelism=Parallelism(data=2, expert=2))


@pytest.mark.parametrize("degree", ["tensor", "pipeline"])
def test_a_module_cannot_be_split_without_knowing_its_layers(degree):
    for model in (nn.Linear(4, 4), "1B"):
        with pytest.raises(MemreqError, match=f"^{degree} divides or changes layers that only"):
            estimate(model, parallelism=Parallelism(**{degree: 2}))


def test_every_word_of_a_rank_is_a_word_of_the_breakdown():
    needed = estimate("1M", parallelism=Parallelism(data=3, zero=1))
    assert {word for word, _ in needed.breakdown.items()} == set(WORDS)
    assert sum(share.ranks for share in needed.ranks) == 3
