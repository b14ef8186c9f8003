"""Operators that need more than their meta kernel: those that read values, and a few others.

Nothing has a value on the pretended card. What asks for one gets the most ordinary answer, and
the result lists who asked. Shapes that depend on values take their upper bound, and are listed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from pytest_memreq.simulate.operators import USUALLY_TRUE
from pytest_memreq.simulate.storages import is_meta, storage_of
from pytest_memreq.simulate.tracer import Handler, Tracer

_META = torch.device("meta")


def _item(tracer: Tracer, _func: OpOverload, args: Any, _kwargs: Any) -> Any:
    tensor = args[0]
    if not is_meta(tensor):
        return NotImplemented
    block = tracer.storages.block_of(tensor)
    tracer.pretend("item()")
    if tensor.dtype is torch.bool:
        if block is None or block.truth is None:
            return block is not None and block.operator in USUALLY_TRUE
        return block.truth
    return torch.zeros((), dtype=tensor.dtype).item()


def _equal(tracer: Tracer, func: OpOverload, args: Any, _kwargs: Any) -> Any:
    if not any(isinstance(arg, Tensor) and is_meta(arg) for arg in args):
        return NotImplemented
    tracer.pretend(f"{func.__name__.partition('.')[0]}()")
    return True


def _is_nonzero(tracer: Tracer, _func: OpOverload, args: Any, _kwargs: Any) -> Any:
    if not is_meta(args[0]):
        return NotImplemented
    tracer.pretend("bool()")
    return False


def _copy_to_cpu(tracer: Tracer, _func: OpOverload, args: Any, _kwargs: Any) -> Any:
    target, source = args[:2]
    if is_meta(target) or not is_meta(source):
        return NotImplemented
    tracer.pretend("values copied to the CPU")
    return target.zero_()


def _nonzero(tracer: Tracer, func: OpOverload, args: Any, _kwargs: Any) -> Any:
    tensor = args[0]
    return _bounded(tracer, func, tensor, [((tensor.numel(), tensor.dim()), torch.int64)])


def _masked_select(tracer: Tracer, func: OpOverload, args: Any, _kwargs: Any) -> Any:
    tensor, mask = args
    most = torch.broadcast_shapes(tensor.shape, mask.shape).numel()
    return _bounded(tracer, func, tensor, [((most,), tensor.dtype)])


def _unique(tracer: Tracer, func: OpOverload, args: Any, _kwargs: Any) -> Any:
    tensor = args[0]
    most = (tensor.numel(),)
    kinds = [(most, tensor.dtype), (tuple(tensor.shape), torch.int64), (most, torch.int64)]
    result = _bounded(tracer, func, tensor, kinds)
    return result if result is NotImplemented else tuple(result)


def _bounded(
    tracer: Tracer,
    func: OpOverload,
    tensor: Tensor,
    kinds: list[tuple[tuple[int, ...], torch.dtype]],
) -> Any:
    if not tracer.storages.is_pretended(tensor):
        return NotImplemented
    name = func._schema.name.replace("::", ".")
    tracer.notes.setdefault(f"{name} has a result as large as it can be; its true size is unknown")
    results = [torch.empty(shape, dtype=dtype, device=_META) for shape, dtype in kinds]
    for result in results:
        tracer.allocate(result, name)
    return results if len(results) > 1 else results[0]


def _index(tracer: Tracer, func: OpOverload, args: Any, _kwargs: Any) -> Any:
    tensor, indices = args
    if not tracer.storages.is_pretended(tensor):
        return NotImplemented
    masks = [i for i in indices if i is not None and i.dtype in (torch.bool, torch.uint8)]
    if masks:
        tracer.notes.setdefault(
            "indexing by a mask has a result as large as it can be; its true size is unknown"
        )
    result = func(tensor, [part for index in indices for part in _as_positions(index)])
    tracer.allocate(result, "aten.index")
    return result


def _as_positions(index: Tensor | None) -> list[Tensor | None]:
    """What an index selects at most: a mask is a list of positions for each of its dimensions."""
    if index is None:
        return [None]
    if index.dtype in (torch.bool, torch.uint8):
        position = torch.empty(index.numel(), dtype=torch.int64, device=_META)
        return [position] * index.dim()
    if is_meta(index):
        return [index]
    return [torch.empty(index.shape, dtype=index.dtype, device=_META)]


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
    "aten._unique2": _unique,
    "aten.unique_dim": _unique,
    "aten.unique_consecutive": _unique,
    "aten.index": _index,
    "aten._grouped_mm": _grouped_product,
    "aten.clone": _clone,
    "aten.resize_": _resize,
    "aten.set_": _set,
    "aten.record_stream": _nothing,
}
