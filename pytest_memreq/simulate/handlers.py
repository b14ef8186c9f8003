"""Operators that need more than their meta kernel: those that read values, and a few others.

Little has a value on the pretended card (see `values`). What asks for another gets the most
ordinary answer, and the result lists who asked. Shapes that depend on values take their upper
bound, and are listed.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.nn.parallel import DistributedDataParallel

from pytest_memreq.simulate.collectives import COLLECTIVES
from pytest_memreq.simulate.kernels.indexing import MASKS, as_positions
from pytest_memreq.simulate.kernels.selecting import CONSECUTIVE_ASKED, UNIQUE_ASKED
from pytest_memreq.simulate.operators import describe
from pytest_memreq.simulate.storages import is_meta, storage_of
from pytest_memreq.simulate.tracer import Handler, Tracer

_META = torch.device("meta")
_DDP_FORWARD = DistributedDataParallel._pre_forward.__code__
Kind = tuple[tuple[int, ...], torch.dtype]


def _item(tracer: Tracer, _func: OpOverload, args: Any, _kwargs: Any) -> Any:
    tensor = args[0]
    if not is_meta(tensor):
        return NotImplemented
    known = tracer.values.of(tensor)
    return tracer.made_up(tensor, "item()") if known is None else known.item()


def _equal(tracer: Tracer, func: OpOverload, args: Any, _kwargs: Any) -> Any:
    if not any(isinstance(arg, Tensor) and is_meta(arg) for arg in args):
        return NotImplemented
    known = [tracer.values.of(arg) if isinstance(arg, Tensor) else arg for arg in args]
    if not any(each is None for each in known):
        return func(*known)
    tracer.pretend(f"{func.__name__.partition('.')[0]}()")
    return True


def _zeros_without_memory(_tracer: Tracer, func: OpOverload, args: Any, kwargs: Any) -> Any:
    # ZeroTensorAllocator of ATen/ZeroTensorFallback.cpp gives no memory, on any device.
    device = kwargs.get("device")
    if device is None or torch.device(device).type not in ("cuda", "meta"):
        return NotImplemented
    return func(*args, **{**kwargs, "device": _META})


def _nested(tracer: Tracer, func: OpOverload, args: Any, kwargs: Any) -> Any:
    device = kwargs.get("device")
    if not any(map(is_meta, args[0])) and (device is None or torch.device(device).type == "cpu"):
        return NotImplemented
    why = "torch has no strided nested tensors on meta; jagged ones can be, but for attention"
    raise tracer.refusal(describe(func), why)


def _is_nonzero(tracer: Tracer, _func: OpOverload, args: Any, _kwargs: Any) -> Any:
    if not is_meta(args[0]):
        return NotImplemented
    tracer.pretend("bool()")
    return False


def _copy_to_cpu(tracer: Tracer, _func: OpOverload, args: Any, _kwargs: Any) -> Any:
    target, source = args[:2]
    if is_meta(target) == is_meta(source):
        return NotImplemented
    if _is_of_buckets():
        return _echoed(tracer, target, source)
    if is_meta(target):
        return NotImplemented
    known = tracer.values.of(source)
    if known is not None:
        return target.copy_(known)
    return target.fill_(tracer.made_up(source, "values copied to the CPU"))


def _is_of_buckets() -> bool:
    # Frames: this, the handler, the tracer's two, and what called into C++.
    return sys._getframe(4).f_code is _DDP_FORWARD


def _echoed(tracer: Tracer, target: Tensor, source: Tensor) -> Any:
    """DDP sends the order of its buckets through the card: all ranks have that of this one.

    sync_bucket_indices of torch/csrc/distributed/c10d/reducer.cpp.
    """
    if is_meta(target):
        tracer.sent = source.clone()
        return target
    return target.zero_() if tracer.sent is None else target.copy_(tracer.sent)


def _nonzero(tracer: Tracer, func: OpOverload, args: Any, kwargs: Any) -> Any:
    tensor = args[0]
    kinds: list[Kind] = [((tensor.numel(), tensor.dim()), torch.int64)]
    return _bounded(tracer, func, args, kwargs, kinds)


def _masked_select(tracer: Tracer, func: OpOverload, args: Any, kwargs: Any) -> Any:
    tensor, mask = args
    most = torch.broadcast_shapes(tensor.shape, mask.shape).numel()
    return _bounded(tracer, func, args, kwargs, [((most,), tensor.dtype)])


def _unique2(tracer: Tracer, func: OpOverload, args: Any, kwargs: Any) -> Any:
    most = 2 if args[0].dtype is torch.bool else args[0].numel()
    return _unique(tracer, func, args, kwargs, (most,), UNIQUE_ASKED)


def _unique_consecutive(tracer: Tracer, func: OpOverload, args: Any, kwargs: Any) -> Any:
    dim = args[3] if len(args) > 3 else kwargs.get("dim")
    most = args[0].shape if dim is not None else (args[0].numel(),)
    return _unique(tracer, func, args, kwargs, tuple(most), CONSECUTIVE_ASKED)


def _unique_dim(tracer: Tracer, func: OpOverload, args: Any, kwargs: Any) -> Any:
    asked = ((3, "return_inverse"), (4, "return_counts"))
    return _unique(tracer, func, args, kwargs, tuple(args[0].shape), asked)


def _unique(
    tracer: Tracer,
    func: OpOverload,
    args: Any,
    kwargs: Any,
    shape: tuple[int, ...],
    asked: tuple[tuple[int, str], ...],
) -> Any:
    inverse, counts = (
        args[at] if len(args) > at else kwargs.get(name, False) for at, name in asked
    )
    tensor = args[0]
    is_two = func is torch.ops.aten._unique2.default and tensor.dtype is torch.bool
    kinds = [
        (shape, tensor.dtype),
        (tuple(tensor.shape) if inverse else (0,), torch.int64),
        (shape[:1] if counts or is_two else (0,), torch.int64),
    ]
    result = _bounded(tracer, func, args, kwargs, kinds)
    return result if result is NotImplemented else tuple(result)


def _bounded(
    tracer: Tracer,
    func: OpOverload,
    args: Any,
    kwargs: Any,
    kinds: list[Kind],
) -> Any:
    if not tracer.storages.is_pretended(args[0]):
        return NotImplemented
    operator = describe(func)
    tracer.notes.setdefault(
        f"{operator.name} has a result as large as it can be; its true size is unknown"
    )
    results = [torch.empty(shape, dtype=dtype, device=_META) for shape, dtype in kinds]
    tracer.record(operator, args, kwargs, results)
    return results if len(results) > 1 else results[0]


def _index(tracer: Tracer, func: OpOverload, args: Any, kwargs: Any) -> Any:
    tensor, indices = args
    if not tracer.storages.is_pretended(tensor):
        return NotImplemented
    if any(index is not None and index.dtype in MASKS for index in indices):
        tracer.notes.setdefault(
            "indexing by a mask has a result as large as it can be; its true size is unknown"
        )
    positions = [part for index in indices for part in as_positions(index)]
    result = func(tensor, [None if part is None else _on_meta(part) for part in positions])
    tracer.record(describe(func), args, kwargs, [result])
    return result


def _on_meta(index: Tensor) -> Tensor:
    return index if is_meta(index) else torch.empty(index.shape, dtype=index.dtype, device=_META)


def _resize(tracer: Tracer, func: OpOverload, args: Any, kwargs: Any) -> Any:
    tensor = args[0]
    if not tracer.storages.is_pretended(tensor):
        return NotImplemented
    before = storage_of(tensor).nbytes()
    result = func(*args, **kwargs)
    if storage_of(tensor).nbytes() != before:
        tracer.storages.forget(tensor)
        tracer.allocate(tensor, "aten.resize_")
    return result


def _set(tracer: Tracer, func: OpOverload, args: Any, kwargs: Any) -> Any:
    result = func(*args, **kwargs)
    tracer.allocate(result, "aten.set_")
    return result


def _clone(tracer: Tracer, _func: OpOverload, args: Any, _kwargs: Any) -> Any:
    tensor = args[0]
    if tensor.layout is not torch.sparse_coo or not is_meta(tensor):
        return NotImplemented  # torch's own would drop the values on meta
    values, indices = (torch.empty_like(part) for part in (tensor._values(), tensor._indices()))
    values = torch.empty(values.shape, dtype=values.dtype, device=_META)  # no longer expanded
    for part in (values, indices):
        tracer.allocate(part, "aten.clone")
    return torch.sparse_coo_tensor(indices, values, tensor.shape, check_invariants=False)


def _grouped_product(tracer: Tracer, func: OpOverload, args: Any, kwargs: Any) -> Any:
    first, second = args[:2]
    if first.dtype is torch.bfloat16 or not tracer.storages.is_pretended(first):
        return NotImplemented
    # The meta kernel knows bfloat16 only; aten/src/ATen/native/cuda/GroupedBlas.cpp has the others.
    offsets = args[2] if len(args) > 2 else kwargs.get("offs")
    groups = () if offsets is None or first.dim() != second.dim() else (offsets.numel(),)
    shape = (*groups, first.shape[-2], second.shape[-1])
    if first.dim() == second.dim() == 3:
        shape = (first.shape[0], *shape[-2:])
    result = torch.empty(shape, dtype=kwargs.get("out_dtype") or first.dtype, device=_META)
    tracer.allocate(result, func._schema.name.replace("::", "."))
    return result


def _nothing(_tracer: Tracer, _func: OpOverload, _args: Any, _kwargs: Any) -> None:
    return None


HANDLERS: dict[str, Handler] = {
    "aten._local_scalar_dense": _item,
    "aten.equal": _equal,
    "aten.allclose": _equal,
    "aten.is_nonzero": _is_nonzero,
    "aten.copy_": _copy_to_cpu,
    "aten.nonzero": _nonzero,
    "aten.masked_select": _masked_select,
    "aten._unique2": _unique2,
    "aten.unique_dim": _unique_dim,
    "aten.unique_consecutive": _unique_consecutive,
    "aten.index": _index,
    "aten._grouped_mm": _grouped_product,
    "aten.clone": _clone,
    "aten._efficientzerotensor": _zeros_without_memory,
    "aten._nested_tensor_from_tensor_list": _nested,
    "aten.resize_": _resize,
    "aten.set_": _set,
    "aten.record_stream": _nothing,
    **COLLECTIVES,
}
