"""Work of one rank of many, in plain torch, for a CUDA build and for the simulation.

Each runs where torch.distributed has a fake group of its ranks, and says which rank of how many.
"""

import warnings
from dataclasses import dataclass
from functools import partial

import torch
from torch import distributed, nn
from torch.distributed._composable.replicate import replicate
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FullyShardedDataParallel,
    MixedPrecisionPolicy,
    fully_shard,
)
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch's module warns of what it uses of torch
    from torch.distributed.optim import ZeroRedundancyOptimizer

MIXED = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
BF16 = MixedPrecisionPolicy(param_dtype=torch.bfloat16)


@dataclass(frozen=True)
class Script:
    """A function, and the rank of how many that it is run as."""

    run: object
    world_size: int = 8
    rank: int = 0


class Block(nn.Module):
    """A transformer's block; heads may be on other ranks, so their number is left open."""

    def __init__(self, width, heads):
        super().__init__()
        self.size = width // heads
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        y = self.ln1(x)
        q, k, v = (
            part(y).unflatten(-1, (-1, self.size)).transpose(1, 2)
            for part in (self.q, self.k, self.v)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.down(functional.gelu(self.up(self.ln2(x))))


class GPT(nn.Module):
    """A small GPT of such blocks."""

    def __init__(self, depth=3, width=256, heads=8, vocabulary=1000, length=128):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens):
        x = self.tokens(tokens)
        x = x + self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def gpt(**sizes):
    with torch.device("cuda"):
        return GPT(**sizes)


def tokens(batch=2, length=128, vocabulary=1000):
    return torch.randint(vocabulary, (batch, length), device="cuda")


def train(model, optimizer=None, steps=2, clip=False):
    """Steps on the next token; the loss is not kept."""
    optimizer = optimizer or torch.optim.AdamW(model.parameters())
    for _ in range(steps):
        batch = tokens()
        logits = model(batch)
        functional.cross_entropy(logits.flatten(0, 1).float(), batch.flatten()).backward()
        del logits
        if clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def sharded(model, checkpoints=False, **options):
    if checkpoints:
        for at, block in enumerate(model.blocks):
            model.blocks[at] = checkpoint_wrapper(block)
    for block in model.blocks:
        fully_shard(block, **options)
    return fully_shard(model, **options)


def fsdp(**options):
    train(sharded(gpt(), **options))


def fsdp_uneven():
    train(sharded(gpt(width=224, vocabulary=1001)))


def fsdp_from_meta():
    with torch.device("meta"):
        model = GPT()
    sharded(model, mp_policy=BF16)
    model.to_empty(device="cuda")
    train(model, torch.optim.AdamW(model.parameters(), fused=True))


def fsdp_prefetching():
    model = sharded(gpt(depth=4))
    for at, block in enumerate(model.blocks):
        block.set_modules_to_forward_prefetch(list(model.blocks[at + 1 : at + 3]))
        block.set_modules_to_backward_prefetch(list(model.blocks[max(0, at - 2) : at])[::-1])
    train(model)


def fsdp_accumulating():
    model = sharded(gpt(), mp_policy=MIXED)
    optimizer = torch.optim.AdamW(model.parameters())
    for micro in range(3):
        model.set_requires_gradient_sync(micro == 2)
        model.set_is_last_backward(micro == 2)
        model(tokens()).float().sum().backward()
    optimizer.step()


def fsdp_clipping():
    train(sharded(gpt()), clip=True)


def fsdp_sgd():
    model = sharded(gpt())
    train(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))


def hsdp(**options):
    mesh = init_device_mesh("cuda", (2, 4), mesh_dim_names=("replicate", "shard"))
    train(sharded(gpt(), mesh=mesh, **options))


HEADS_AND_COLUMNS = {
    **{name: ColwiseParallel() for name in ("q", "k", "v", "up")},
    **{name: RowwiseParallel() for name in ("out", "down")},
}
ALONG_THE_SEQUENCE = {
    "ln1": SequenceParallel(),
    "ln2": SequenceParallel(),
    **{name: ColwiseParallel(input_layouts=Shard(1)) for name in ("q", "k", "v", "up")},
    **{name: RowwiseParallel(output_layouts=Shard(1)) for name in ("out", "down")},
}


def tensor_parallel(mesh=None):
    mesh = mesh or init_device_mesh("cuda", (distributed.get_world_size(),))
    model = gpt()
    for block in model.blocks:
        parallelize_module(block, mesh, HEADS_AND_COLUMNS)
    return model


def tp():
    model = tensor_parallel()
    # By foreach, torch refuses to mix what is divided with what is not.
    train(model, torch.optim.AdamW(model.parameters(), foreach=False))


def tp_sequences():
    mesh = init_device_mesh("cuda", (distributed.get_world_size(),))
    model = gpt()
    plan = {
        "tokens": RowwiseParallel(input_layouts=Replicate(), output_layouts=Shard(1)),
        "norm": SequenceParallel(),
        "head": ColwiseParallel(input_layouts=Shard(1), output_layouts=Replicate()),
    }
    parallelize_module(model, mesh, plan)
    for block in model.blocks:
        parallelize_module(block, mesh, ALONG_THE_SEQUENCE)
    model.positions = NoPositions()
    train(model)


class NoPositions(nn.Module):
    """In place of an embedding that would have to be divided along the sequence."""

    def forward(self, _positions):
        return 0


def tp_prepared():
    mesh = init_device_mesh("cuda", (distributed.get_world_size(),))
    with torch.device("cuda"):
        model = nn.Sequential(nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 256))
    plan = {
        "": PrepareModuleInput(input_layouts=Shard(0), desired_input_layouts=Replicate()),
        "0": ColwiseParallel(),
        "2": RowwiseParallel(output_layouts=Shard(0)),
    }
    parallelize_module(model, mesh, plan)
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(2):
        model(torch.randn(32, 256, device="cuda")).sum().backward()
        optimizer.step()


def fsdp_and_tp():
    mesh = init_device_mesh("cuda", (2, 4), mesh_dim_names=("data", "tensor"))
    train(sharded(tensor_parallel(mesh["tensor"]), mesh=mesh["data"], mp_policy=MIXED))


def ddp(steps=1, **options):
    model = DistributedDataParallel(gpt(), device_ids=[0], **options)
    train(model, steps=steps)


def ddp_autocast():
    model = DistributedDataParallel(gpt(), device_ids=[0])
    with torch.autocast("cuda", dtype=torch.bfloat16):
        loss = model(tokens()).float().sum()
    loss.backward()


def ddp_accumulating():
    model = DistributedDataParallel(gpt(), device_ids=[0])
    with model.no_sync():
        model(tokens()).sum().backward()
    model(tokens()).sum().backward()


def zero_1():
    model = DistributedDataParallel(gpt(), device_ids=[0])
    optimizer = ZeroRedundancyOptimizer(model.parameters(), torch.optim.AdamW)
    train(model, optimizer, steps=1)


def fsdp1(**options):
    model = FullyShardedDataParallel(
        gpt(),
        auto_wrap_policy=ModuleWrapPolicy({Block}),
        device_id=torch.device("cuda", 0),
        **options,
    )
    train(model)


def replicated():
    model = gpt()
    replicate(model)
    train(model, steps=1)


def pipeline(schedule, microbatches=4):
    """The stage of this rank: blocks of 256, whose shapes are given."""
    stages, stage = distributed.get_world_size(), distributed.get_rank()
    with torch.device("cuda"):
        module = nn.Sequential(Block(256, 8), Block(256, 8))
    taken = torch.randn(2, 64, 256, device="cuda", requires_grad=stage > 0)
    given = torch.randn(2, 64, 256, device="cuda", requires_grad=True)
    part = PipelineStage(
        module, stage, stages, torch.device("cuda", 0), input_args=(taken,), output_args=(given,)
    )
    runner = schedule(part, microbatches, loss_fn=functional.mse_loss)
    optimizer = torch.optim.AdamW(module.parameters())
    whole = torch.randn(2 * microbatches, 64, 256, device="cuda")
    for _ in range(2):
        arguments = (whole,) if stage == 0 else ()
        target = {"target": whole} if stage == stages - 1 else {}
        runner.step(*arguments, **target)
        optimizer.step()
        optimizer.zero_grad()


def collectives():
    """Each of torch.distributed that takes a tensor of the card."""
    ranks = distributed.get_world_size()
    with torch.device("cuda"):
        part, whole = torch.randn(1000), torch.randn(1000 * ranks)
    distributed.broadcast(part, src=0)
    distributed.all_reduce(part)
    distributed.all_reduce(part, async_op=True).wait()
    distributed.reduce(part, dst=0)
    distributed.all_gather_into_tensor(whole, part)
    distributed.reduce_scatter_tensor(part, whole)
    distributed.all_to_all_single(whole, whole.clone())
    distributed.send(part, dst=1)
    distributed.recv(part, src=1)
    works = distributed.batch_isend_irecv(
        [
            distributed.P2POp(distributed.isend, part, 1),
            distributed.P2POp(distributed.irecv, torch.empty_like(part), 1),
        ]
    )
    for work in works:
        work.wait()


def functional_collectives():
    """Those that make their results, through autograd where they have it."""
    from torch.distributed import _functional_collectives as f

    group = distributed.group.WORLD
    with torch.device("cuda"):
        x = torch.randn(64, 128, requires_grad=True)
        y = torch.randn(96, 64).t()  # not contiguous
    gathered = f.all_gather_tensor_autograd(x * 2, 0, group)
    scattered = f.reduce_scatter_tensor_autograd(gathered * 2, "sum", 0, group)
    swapped = f.all_to_all_single_autograd(scattered * 2, None, None, group)
    swapped.sum().backward()
    for each in (
        f.all_reduce(y, "sum", group),
        f.all_gather_tensor(y, 0, group),
        f.all_gather_tensor(y, 1, group),
        f.reduce_scatter_tensor(y, "avg", 0, group),
        f.reduce_scatter_tensor(y, "avg", 1, group),
        f.broadcast(y, 0, group),
        f.all_to_all_single(y.contiguous(), None, None, group),
        *f.all_reduce_coalesced([y, x.detach()], "sum", group),
        *f.all_gather_into_tensor_coalesced([x.detach(), x.detach()], group),
        *f.reduce_scatter_tensor_coalesced([x.detach()], "sum", [0], group),
    ):
        each + 1


def redistributing():
    mesh = init_device_mesh("cuda", (distributed.get_world_size(),))
    whole = torch.randn(256, 512, device="cuda", requires_grad=True)
    rows = distribute_tensor(whole, mesh, [Shard(0)])
    columns = rows.redistribute(placements=[Shard(1)])
    product = torch.mm(rows, DTensor.from_local(torch.randn(512, 64, device="cuda"), mesh))
    (product.full_tensor().sum() + columns.to_local().sum()).backward()


SCRIPTS = {
    **{f"fsdp of {n}": Script(fsdp, n) for n in (1, 2, 8, 64, 1024)},
    "fsdp, the last rank": Script(fsdp, 64, 63),
    "fsdp, uneven": Script(fsdp_uneven, 64),
    "fsdp, uneven, the last rank": Script(fsdp_uneven, 64, 63),
    "fsdp in bfloat16, reduced in float32": Script(partial(fsdp, mp_policy=MIXED)),
    "fsdp in bfloat16": Script(partial(fsdp, mp_policy=BF16)),
    "fsdp, no resharding": Script(partial(fsdp, reshard_after_forward=False)),
    "fsdp, resharding to 4": Script(partial(fsdp, reshard_after_forward=4)),
    "fsdp, checkpoints": Script(partial(fsdp, checkpoints=True)),
    "fsdp, checkpoints, mixed": Script(partial(fsdp, checkpoints=True, mp_policy=MIXED), 1024),
    "fsdp, offload": Script(partial(fsdp, offload_policy=CPUOffloadPolicy(pin_memory=False))),
    "fsdp, offload, mixed": Script(
        partial(fsdp, mp_policy=MIXED, offload_policy=CPUOffloadPolicy(pin_memory=False))
    ),
    "fsdp from meta": Script(fsdp_from_meta),
    "fsdp, prefetching": Script(fsdp_prefetching),
    "fsdp, accumulating": Script(fsdp_accumulating),
    "fsdp, clipping": Script(fsdp_clipping),
    "fsdp with sgd": Script(fsdp_sgd),
    "hsdp": Script(hsdp),
    "hsdp, mixed": Script(partial(hsdp, mp_policy=MIXED, checkpoints=True), rank=5),
    "tensor parallel": Script(tp),
    "tensor parallel, the last rank": Script(tp, rank=7),
    "tensor parallel along the sequence": Script(tp_sequences, 4),
    "tensor parallel, prepared": Script(tp_prepared, 4),
    "fsdp and tensor parallel": Script(fsdp_and_tp),
    "ddp": Script(ddp),
    "ddp, buckets are gradients": Script(partial(ddp, gradient_as_bucket_view=True)),
    "ddp, small buckets": Script(partial(ddp, bucket_cap_mb=1)),
    "ddp, static": Script(partial(ddp, static_graph=True)),
    "ddp, unused parameters": Script(partial(ddp, find_unused_parameters=True, steps=2)),
    "ddp in autocast": Script(ddp_autocast),
    "ddp, accumulating": Script(ddp_accumulating),
    "ddp, sharded optimizer": Script(zero_1),
    "replicate": Script(replicated),
    "fsdp 1": Script(fsdp1),
    "fsdp 1, original parameters": Script(partial(fsdp1, use_orig_params=True)),
    **{
        f"pipeline, {name}, stage {rank}": Script(partial(pipeline, schedule), 4, rank)
        for name, schedule in (("gpipe", ScheduleGPipe), ("1f1b", Schedule1F1B))
        for rank in (0, 1, 3)
    },
    "collectives": Script(collectives),
    "functional collectives": Script(functional_collectives),
    "redistributing": Script(redistributing, 4),
}
