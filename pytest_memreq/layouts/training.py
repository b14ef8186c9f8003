"""A layout's training step in torch's own words, as one rank runs it within a simulation.

ZeRO-0 is DistributedDataParallel, ZeRO-1 that with ZeroRedundancyOptimizer, ZeRO-2 `fully_shard`
that keeps parameters gathered from forward to backward, ZeRO-3 `fully_shard`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    loss_parallel,
    parallelize_module,
)
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from pytest_memreq.estimate.transformer import Transformer
from pytest_memreq.layouts.decoder import Attention, Decoder, FeedForward
from pytest_memreq.layouts.finalists import Training
from pytest_memreq.layouts.layout import Layout

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch's module warns of what it uses of torch
    from torch.distributed.optim import ZeroRedundancyOptimizer

STEPS = 2  # the optimizer's states are there from the second on
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def step_of(model: Transformer, layout: Layout, training: Training) -> Callable[[], None]:
    """A function without arguments that trains as one rank of the layout."""

    def step() -> None:
        mesh = init_device_mesh(
            "cuda", (layout.data, layout.tensor), mesh_dim_names=("data", "tensor")
        )
        with torch.device("meta"):
            decoder = Decoder(model, recompute=layout.recompute).to(HALF.get(training.precision))
        if layout.tensor > 1:
            _divide(decoder, mesh["tensor"])
        if layout.recompute == "full":
            for at, block in enumerate(decoder.blocks):
                decoder.blocks[at] = checkpoint_wrapper(block)
        placed, optimizer = _placed(decoder, layout, training, mesh["data"])
        for _ in range(STEPS):
            _work(placed, model, layout, training)
            if optimizer is not None:
                optimizer.step()
            placed.zero_grad()

    return step


def _work(placed: nn.Module, model: Transformer, layout: Layout, training: Training) -> None:
    shape = (layout.batch, training.tokens)
    tokens = torch.randint(model.vocabulary, shape, device="cuda")
    targets = torch.randint(model.vocabulary, shape, device="cuda")
    with ExitStack() as stack:
        if layout.tensor > 1:
            stack.enter_context(loss_parallel())
        with _casting(layout, training):
            logits = placed(tokens)
        loss = _loss(logits, targets)
        del logits
        loss.backward()


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def _casting(layout: Layout, training: Training) -> AbstractContextManager[Any]:
    """FSDP casts by its own policy; else torch.autocast does."""
    is_cast = training.precision == "autocast" or (training.is_mixed and layout.zero < 2)
    return torch.autocast("cuda", dtype=torch.bfloat16) if is_cast else nullcontext()


def _divide(decoder: Decoder, mesh: DeviceMesh) -> None:
    """Heads and the feed-forward network's width by columns and rows, the vocabulary by rows."""
    columns, rows = ("q", "k", "v", "gate", "up"), ("out", "down")
    plan: dict[str, ParallelStyle] = {
        **{name: ColwiseParallel() for name in columns},
        **{name: RowwiseParallel() for name in rows},
    }
    whole: dict[str, ParallelStyle] = {"tokens": RowwiseParallel(input_layouts=Replicate())}
    if decoder.head is not None:
        whole["head"] = ColwiseParallel()
    parallelize_module(decoder, mesh, whole)
    for part in decoder.modules():
        if isinstance(part, Attention | FeedForward):
            named = {name: plan[name] for name, _ in part.named_children() if name in plan}
            parallelize_module(part, mesh, named)


def _placed(
    decoder: Decoder, layout: Layout, training: Training, mesh: DeviceMesh
) -> tuple[nn.Module, torch.optim.Optimizer | None]:
    if layout.zero >= 2:
        return _sharded(decoder, layout, training, mesh)
    decoder.to_empty(device="cuda")
    placed: nn.Module = decoder
    if layout.data > 1:
        placed = DistributedDataParallel(
            decoder, device_ids=[0], process_group=mesh.get_group(), gradient_as_bucket_view=True
        )
    if layout.zero == 0:
        return placed, training.optimizer(decoder.parameters())
    kind, options = training.optimizer_class()
    make: Callable[..., torch.optim.Optimizer] = ZeroRedundancyOptimizer
    return placed, make(decoder.parameters(), kind, mesh.get_group(), **options)


def _sharded(
    decoder: Decoder, layout: Layout, training: Training, mesh: DeviceMesh
) -> tuple[nn.Module, torch.optim.Optimizer | None]:
    is_offloaded = layout.offload != "none"
    half = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    options: dict[str, Any] = {
        "mesh": mesh,
        "reshard_after_forward": layout.zero == 3,
        "mp_policy": half if training.is_mixed else MixedPrecisionPolicy(),
        "offload_policy": CPUOffloadPolicy(pin_memory=False) if is_offloaded else OffloadPolicy(),
    }
    for block in decoder.blocks:
        fully_shard(block, **options)
    fully_shard(decoder, **options)
    decoder.to_empty(device="cpu" if is_offloaded else "cuda")
    if not is_offloaded:
        return decoder, training.optimizer(decoder.parameters())
    # What is on the host is really there, and no card sees it: gradients go once they have come,
    # and the optimizer does not work.
    for parameter in decoder.parameters():
        parameter.register_post_accumulate_grad_hook(_let_go)
    return decoder, None


def _let_go(parameter: Tensor) -> None:
    parameter.grad = None
