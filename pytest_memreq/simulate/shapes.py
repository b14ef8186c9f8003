"""What operators make of shapes, remembered: most are Python on meta, and layers repeat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._ops import OpOverload

from pytest_memreq.simulate.operators import Operator
from pytest_memreq.simulate.storages import as_tuple, is_meta, key_of, tensors_in

META = torch.device("meta")
MOST = 100_000  # entries, of some hundred bytes each
_VALUES = (type(None), bool, int, float, str, torch.dtype, torch.layout, torch.memory_format)


class Made(NamedTuple):
    """A fresh tensor, by all that a tensor without values is."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype


class Unknown(Exception):  # noqa: N818 - not an error: the operator runs
    """An argument or result that is more than its shape."""


class Shapes:
    """Results of operators by the shapes, strides and types of their arguments.

    Only of operators that make fresh tensors, or change their first argument and nothing else.
    """

    def __init__(self) -> None:
        self._known: dict[Any, Any] = {}

    def call(self, func: OpOverload, operator: Operator, args: Any, kwargs: Any) -> Any:
        """The result of the operator, without running it where the same was run before."""
        if not operator.depends_on_shapes:
            return func(*args, **kwargs)
        try:
            if operator.is_foreach:
                return _each(func, operator, args, kwargs)
            key = (func, _signature(args), _signature(tuple(kwargs.items())))
        except Unknown:
            return func(*args, **kwargs)
        known = self._known.get(key)
        if known is not None:
            return known(args)
        result = func(*args, **kwargs)
        if len(self._known) >= MOST:
            self._known.clear()
        made = _remembered(operator, args, result)
        if made is not None:
            self._known[key] = made
        return result


def _each(func: OpOverload, operator: Operator, args: Any, kwargs: Any) -> Any:
    """The result of an operator on lists of tensors, run once for all rows of equal shapes."""
    lists = [arg for arg in (*args, *kwargs.values()) if _is_list(arg)]
    if len({len(arg) for arg in lists}) != 1 or any(map(_is_list, kwargs.values())):
        raise Unknown
    if not all(map(is_meta, tensors_in(args))):
        raise Unknown  # a copy to the CPU is more than its shape
    rows = _signature(tuple(zip(*lists, strict=True)))
    firsts = {row: at for at, row in reversed(list(enumerate(rows)))}
    kept = sorted(firsts.values())
    result = func(*[[arg[at] for at in kept] if _is_list(arg) else arg for arg in args], **kwargs)
    if operator.changes_first or result is None:
        return result
    made = {at: _made(item) for at, item in zip(kept, result, strict=True)}
    return [_make(made[firsts[row]]) for row in rows]


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _signature(value: Any) -> Any:
    if isinstance(value, Tensor):
        if value.is_conj() or value.is_neg() or value.layout is not torch.strided:
            raise Unknown
        device = value.untyped_storage().device.type
        return (value.shape, value.stride(), value.dtype, device)
    if isinstance(value, (tuple, list)):
        return tuple([_signature(item) for item in value])
    if isinstance(value, _VALUES):
        return (type(value), value)  # 1, 1.0 and True are equal but make other types
    raise Unknown


def _remembered(operator: Operator, args: Any, result: Any) -> Callable[[Any], Any] | None:
    """How to have the same result again; None if it is more than its shapes."""
    if operator.changes_first:
        if result is None:
            return lambda _: None
        return (lambda args: args[0]) if result is args[0] else None
    given = {key_of(tensor) for tensor in tensors_in(args)}
    if any(key_of(tensor) in given for tensor in tensors_in(as_tuple(result))):
        return None  # it gives an argument back, though its schema does not say so
    try:
        made = _made(result)
    except Unknown:
        return None
    return lambda _: _make(made)


def _made(result: Any) -> Any:
    if isinstance(result, Tensor):
        span = 1 + sum(
            (size - 1) * step for size, step in zip(result.shape, result.stride(), strict=True)
        )
        whole_bytes = span * result.element_size() if result.numel() else 0
        # A view, or a tensor with room behind it, is more than its shape.
        if result.storage_offset() or result.untyped_storage().nbytes() != whole_bytes:
            raise Unknown
        return Made(tuple(result.shape), result.stride(), result.dtype)
    if isinstance(result, (tuple, list)):
        return [_made(item) for item in result], type(result)
    if result is None:
        return None
    raise Unknown


def _make(made: Any) -> Any:
    if isinstance(made, Made):
        return torch.empty_strided(made.shape, made.strides, dtype=made.dtype, device=META)
    if made is None:
        return None
    items, kind = made
    return kind([_make(item) for item in items])
