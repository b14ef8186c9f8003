"""Operators that make tensors: which device they are for, and what they become there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from pytest_memreq.simulate.operators import Operator
from pytest_memreq.simulate.storages import is_meta, tensors_in

if TYPE_CHECKING:
    from pytest_memreq.simulate.tracer import Tracer

_CPU = torch.device("cpu")
_META = torch.device("meta")


def create(tracer: Tracer, func: OpOverload, operator: Operator, args: Any, kwargs: Any) -> Any:
    """Factories and copies: the device comes as an argument, or from the first tensor."""
    like = next(tensors_in(args), None)
    device = _requested_device(kwargs.get("device"), like)
    if device.type not in ("cuda", "meta"):
        return _create_elsewhere(tracer, func, operator, like, args, kwargs)
    kwargs = {name: value for name, value in kwargs.items() if name != "pin_memory"}
    if like is not None and not is_meta(like):
        args = (_shape_of(like), *args[1:])
    result = func(*args, **{**kwargs, "device": _META})
    # C++ asks for meta where CUDA's would ask for the card, by the options of a tensor at hand.
    # What user code itself wants on meta does not come here: see `make_genuine`.
    if device.type == "meta" and like is not None and tracer.is_foreign(like):
        tracer.storages.add_foreign(result)
    else:
        fresh = like is None or not is_meta(like)
        tracer.record(operator, args, kwargs, (result,), is_input=fresh)
    return result


def _create_elsewhere(
    tracer: Tracer,
    func: OpOverload,
    operator: Operator,
    like: Tensor | None,
    args: Any,
    kwargs: Any,
) -> Any:
    kwargs = {name: value for name, value in kwargs.items() if name != "pin_memory"}
    if like is None or not is_meta(like) or tracer.is_foreign(like):
        return func(*args, **kwargs)
    if operator.name != "aten._to_copy":
        return func(*args, **kwargs)  # it asks for the shape alone
    known = tracer.values.of(like)
    if known is not None:
        return func(known, *args[1:], **kwargs)
    shape = func(*args, **{**kwargs, "device": _META})
    number = tracer.made_up(like, "values copied to the CPU")
    return torch.full_like(shape, number, device=_CPU)


def _requested_device(given: Any, like: Tensor | None) -> torch.device:
    if given is not None:
        return torch.device(given)
    return _META if like is not None and is_meta(like) else _CPU


def _shape_of(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=_META)
