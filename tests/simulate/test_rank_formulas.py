"""What a simulated rank holds beside the closed forms of `estimate`, for each parallelism."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.pipelining import PipelineStage, Schedule1F1B
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from benchmarks.rank_scripts import GPT, HEADS_AND_COLUMNS, Block
from benchmarks.ranks import SMALL as SMALL_CLUSTER
from benchmarks.ranks import closed_form, simulated
from pytest_memreq import Parallelism, Transformer, estimate, simulate

pytestmark = [
    *map(pytest.mark.filterwarnings, ("ignore::DeprecationWarning", "ignore::FutureWarning")),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
WIDTH = 1024  # rows, so that they come out even for as many ranks
HELD = ("parameters", "gradients", "optimizer_states")


def layers():
    return nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(3)))


def held_after(make, **ranks):
    """Bytes of each word that training leaves: what comes last makes the peak."""

    def step():
        model = make()
        optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
        for _ in range(2):  # DDP makes its buckets anew before the second
            optimizer.zero_grad()
            model(torch.randn(4, WIDTH, device="cuda")).sum().backward()
            optimizer.step()
        torch.empty(1 << 30, device="cuda")

    breakdown = simulate(step, **ranks).breakdown
    return {word: getattr(breakdown, f"{word}_bytes") for word in HELD}


def estimated(parallelism):
    breakdown = estimate(
        layers(), optimizer="adamw", precision="fp32", parallelism=parallelism
    ).breakdown
    return {word: getattr(breakdown, f"{word}_bytes") for word in HELD}


def rounded_up(held, blocks):
    """Parameters are blocks of 512 bytes at least: what that can add for so many of them."""
    return {
        word: size + 511 * blocks * (2 if "states" in word else 1) for word, size in held.items()
    }


def shard(mesh=None):
    model = layers().cuda()
    for layer in model:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


@pytest.mark.parametrize("ranks", [2, 8, 64, 256, 1024])
def test_fully_sharded(ranks):
    found = held_after(shard, world_size=ranks, rank=ranks - 1)
    said = estimated(Parallelism(data=ranks, zero=3))
    most = rounded_up(said, blocks=6)
    assert all(said[word] <= found[word] <= most[word] for word in HELD), (said, found)


@pytest.mark.parametrize("ranks", [2, 8, 128])
def test_replicated(ranks):
    found = held_after(lambda: DistributedDataParallel(layers().cuda()), world_size=ranks)
    assert found == estimated(Parallelism(data=ranks))


@pytest.mark.parametrize(("copies", "ranks"), [(2, 4), (8, 16)])
def test_sharded_within_groups(copies, ranks):
    def make():
        return shard(init_device_mesh("cuda", (copies, ranks), mesh_dim_names=("copy", "shard")))

    found = held_after(make, world_size=copies * ranks, rank=copies)
    said = estimated(Parallelism(data=copies * ranks, zero=3, shard=ranks))
    most = rounded_up(said, blocks=6)
    assert all(said[word] <= found[word] <= most[word] for word in HELD), (said, found)


SMALL = {"layers": 2, "hidden": 256, "heads": 8, "vocabulary": 1024, "positions": 128}


@pytest.mark.parametrize("ranks", [2, 4])
def test_tensor_parallel(ranks):
    def step():
        mesh = init_device_mesh("cuda", (ranks,))
        with torch.device("cuda"):
            model = GPT(depth=2, width=256, heads=8, vocabulary=1024, length=128)
        plan = {
            "tokens": RowwiseParallel(input_layouts=Replicate()),
            "head": ColwiseParallel(output_layouts=Replicate()),
        }
        parallelize_module(model, mesh, plan)
        for block in model.blocks:
            parallelize_module(block, mesh, HEADS_AND_COLUMNS)
        tokens = torch.randint(1024, (1, 128), device="cuda")
        model(tokens).sum().backward()
        torch.empty(1 << 30, device="cuda")

    found = simulate(step, world_size=ranks, rank=1).breakdown
    said = estimate(
        Transformer(**SMALL, tied_embeddings=False),
        precision="fp32",
        parallelism=Parallelism(tensor=ranks),
    ).breakdown
    biases = 3 * 2  # of queries, keys and values: smaller than a block's 512 bytes on 4 ranks
    rounding_bytes = biases * max(0, 512 - 256 // ranks * 4)
    assert found.parameters_bytes == said.parameters_bytes + rounding_bytes
    # DTensor's gradient of an embedding that is divided by words is made for all of them.
    whole_bytes = (1024 - 1024 // ranks) * 256 * 4
    assert found.gradients_bytes == said.gradients_bytes + rounding_bytes + whole_bytes


STAGES = 4


def pipeline(microbatches):
    rank = distributed.get_rank()
    with torch.device("cuda"):
        module = Block(256, 8)
        taken = torch.randn(1, 128, 256, requires_grad=rank > 0)
        given = torch.randn(1, 128, 256, requires_grad=True)
        whole = torch.randn(microbatches, 128, 256)
    stage = PipelineStage(
        module, rank, STAGES, torch.device("cuda", 0), input_args=(taken,), output_args=(given,)
    )
    arguments = (whole,) if rank == 0 else ()
    target = {"target": whole} if rank == STAGES - 1 else {}
    Schedule1F1B(stage, microbatches, loss_fn=functional.mse_loss).step(*arguments, **target)


def test_pipeline_stages():
    found = [
        simulate(partial(pipeline, 8), world_size=STAGES, rank=rank).breakdown
        for rank in range(STAGES - 1)
    ]
    middle = next(
        share.breakdown
        for share in estimate(
            Transformer(**{**SMALL, "layers": STAGES}),
            precision="fp32",
            parallelism=Parallelism(pipeline=STAGES),
        ).ranks
        if share.stage == 1
    )
    assert found[1].parameters_bytes == middle.parameters_bytes
    # Each stage holds a micro-batch less than the one before.
    steps = [a.activations_bytes - b.activations_bytes for a, b in pairwise(found)]
    assert steps[0] > 0
    assert steps[0] == steps[1]


@pytest.mark.parametrize("steps", [1, 2])
def test_a_small_cluster_is_what_the_closed_form_of_the_large_one_says(steps):
    peak = simulated(SMALL_CLUSTER, steps).peak.allocated_bytes
    assert peak == pytest.approx(sum(closed_form(SMALL_CLUSTER, steps).values()), rel=0.02)
