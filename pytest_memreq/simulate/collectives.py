"""Collectives between ranks of which only one is there: what they need of its card's memory.

The tensors are the caller's, so most need nothing. What torch's NCCL backend takes for itself is
allocated as there: torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C import _distributed_c10d
from torch._ops import OpOverload

from pytest_memreq.simulate.storages import is_meta, tensors_in
from pytest_memreq.simulate.tracer import Handler, Tracer

FLOAT_BYTES = 4


def _work_of(tensors: list[Tensor]) -> Any:
    """A collective that is done, with its results, as torch's operators hand it on."""
    future: Any = torch.futures.Future()
    future.set_result(tensors)
    make: Any = _distributed_c10d._create_work_from_future  # type: ignore[attr-defined]  # missing in torch's stubs
    return make(future).boxed()


def _collective(
    results: Callable[[Any], Any] | None = None,
    takes: Callable[[Any], int] = lambda _args: 0,
) -> Handler:
    """`results` are what the operator returns beside its work; it `takes` so many bytes itself."""

    def handle(tracer: Tracer, func: OpOverload, args: Any, _kwargs: Any) -> Any:
        tensors = [*tensors_in(args)]
        if not any(map(is_meta, tensors)):
            return NotImplemented
        size_bytes = takes(args)
        if size_bytes:
            tracer.recorder.take_for_now(size_bytes, f"within {func._schema.name}")
        given = args[0] if results is None else results(args)
        work = _work_of([*tensors_in([given])])
        return work if results is None else (given, work)

    return handle


def _first(args: Any) -> Any:
    return args[0]


def _flat_bytes(lists: Sequence[Sequence[Tensor]]) -> int:
    # newLikeFlat: tensors of one size pass through one that holds them all, else they are sent
    # one by one.
    sizes = {tuple(tensor.shape) for tensors in lists for tensor in tensors}
    if len(sizes) != 1:
        return 0
    return sum(t.numel() * t.element_size() for tensors in lists for t in tensors)


def _reduced(tracer: Tracer, func: OpOverload, args: Any, kwargs: Any) -> Any:
    # DDP reduces the gradients of a bucket while backward runs; they are copied from and to it, or
    # are views of it.
    if tracer.is_backward:
        tracer.recorder.mark_buffers(args[0])
    return _collective(_first)(tracer, func, args, kwargs)


def _buffers(*positions: int) -> Handler:
    """Of FSDP's own operators: arguments that are there to exchange what is sharded."""

    def handle(tracer: Tracer, _func: OpOverload, args: Any, kwargs: Any) -> Any:
        given = [args[at] for at in positions] or [kwargs["out"]]
        tracer.recorder.mark_buffers(tensors_in(given))
        return NotImplemented

    return handle


def _received(results: Callable[[Any], Any] | None = None, root_at: int | None = None) -> Handler:
    """What comes from another rank: on the CPU, where values count, zeros."""
    usual = _collective(results)

    def handle(tracer: Tracer, func: OpOverload, args: Any, kwargs: Any) -> Any:
        if any(map(is_meta, tensors_in(args))):
            return usual(tracer, func, args, kwargs)
        group = _distributed_c10d.ProcessGroup.unbox(args[1])
        backend = group._get_backend(torch.device("cpu"))
        is_mine = root_at is not None and args[root_at] == group.rank()
        if isinstance(backend, _distributed_c10d.FakeProcessGroup) and not is_mine:
            for tensor in args[0]:
                tensor.zero_()
        return NotImplemented

    return handle


def _waited(tracer: Tracer, _func: OpOverload, args: Any, _kwargs: Any) -> Any:
    return args[0] if tracer.storages.is_pretended(args[0]) else NotImplemented


def _wrapped(tracer: Tracer, _func: OpOverload, args: Any, _kwargs: Any) -> Any:
    # On the card it is a tensor that waits when it is used; torch's own for meta makes a new one.
    is_pretended = tracer.storages.is_pretended(args[0])
    return torch.ops.aten.alias(args[0]) if is_pretended else NotImplemented


def _shard_dim_alltoall(tracer: Tracer, _func: OpOverload, args: Any, _kwargs: Any) -> Any:
    # shard_dim_alltoall of torch/csrc/distributed/c10d/Functional.cpp; torch's own for meta tensors
    # gathers all.
    tensor, gathered, sharded, group = args
    if not tracer.storages.is_pretended(tensor):
        return NotImplemented
    ranks = _distributed_c10d._resolve_process_group(group).size()
    with tracer.as_user():
        parts = tensor.unflatten(sharded, (ranks, tensor.shape[sharded] // ranks))
        sent = parts.movedim(sharded, 0).contiguous()
        received = torch.empty_like(sent)
        result = received.movedim(0, gathered).contiguous()
        return result.flatten(gathered, gathered + 1)


COLLECTIVES: dict[str, Handler] = {
    "c10d.broadcast_": _received(_first, root_at=2),
    "c10d.allreduce_": _reduced,
    "c10d.allreduce_coalesced_": _collective(),
    "c10d.reduce_": _collective(),
    "c10d._allgather_base_": _collective(_first),
    "c10d._reduce_scatter_base_": _collective(_first),
    "c10d.allgather_": _collective(_first, lambda args: _flat_bytes(args[0])),
    "c10d.reduce_scatter_": _collective(_first, lambda args: _flat_bytes(args[1])),
    "c10d.allgather_coalesced_": _collective(),
    "c10d.allgather_into_tensor_coalesced_": _collective(),
    "c10d.reduce_scatter_tensor_coalesced_": _collective(),
    "c10d.gather_": _collective(),
    "c10d.scatter_": _collective(_first),
    "c10d.alltoall_": _collective(_first),
    "c10d.alltoall_base_": _collective(),
    "c10d.send": _collective(),
    "c10d.recv_": _received(),
    "c10d.recv_any_source_": _received(),
    "c10d.barrier": _collective(takes=lambda _args: FLOAT_BYTES),
    "_dtensor.shard_dim_alltoall": _shard_dim_alltoall,
    "_c10d_functional.wait_tensor": _waited,
    "_c10d_functional._wrap_tensor_autograd": _wrapped,
    # torch/distributed/fsdp/_fully_shard/_fsdp_collectives.py
    "fsdp.all_gather_copy_in": _buffers(1),
    "fsdp.split_with_sizes_copy": _buffers(),
    "fsdp.chunk_cat": _buffers(),
}
