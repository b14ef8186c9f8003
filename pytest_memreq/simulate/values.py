"""Values of small tensors on the pretended card, as far as code gave them itself.

Loops end by them (`generate()` counts what is finished), lengths and indices are copied to the
card and read there, and kernels are chosen by them (`torch.all(mask == 1)`). So what is made from
numbers of the program, or of whole numbers copied from the CPU, is computed on the CPU too, as long
as it is small and follows from nothing unknown.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._ops import OpOverload

from pytest_memreq.simulate.operators import Operator
from pytest_memreq.simulate.storages import as_tuple, is_meta, key_of, storage_of, tensors_in
from pytest_memreq.simulate.truth import BOTH, CHOICE, EITHER, chosen_of

# Numbers in a tensor, by its type: computing them takes some hundred microseconds. Masks and
# lengths may be large; of what is no whole number, it is masks and scales that are looked at.
_WHOLE = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_OTHER = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
MOST = {**dict.fromkeys(_WHOLE, 2**18), **dict.fromkeys(_OTHER, 2**16)}
_CPU = torch.device("cpu")
_CAST = "aten._to_copy"
_VOTES = (3, 4, 5, 6)  # c10d::ReduceOp: MIN, MAX, BAND, BOR
_RANDOM = torch.Tag.nondeterministic_seeded
# What the CPU may say where the card would not, or not so: nothing is known then.
_REFUSALS = (RuntimeError, IndexError, TypeError, ValueError)


class Unknown(Exception):  # noqa: N818 - not an error: the value is not known
    """An argument whose values nobody knows."""


class _Kept(NamedTuple):
    """The numbers of a storage, flat, and what tells that the storage is gone."""

    numbers: Tensor
    storage: weakref.ref[Any]


class Values:
    """What is known of the values of pretended tensors, by their storage.

    `truth` is what all elements of a tensor are taken to be, where its values are not known.
    """

    def __init__(self, truth: Callable[[Tensor], bool | None]) -> None:
        self._truth = truth
        self._kept: dict[int, _Kept] = {}

    def of(self, tensor: Tensor) -> Tensor | None:
        """The tensor's values as a tensor on the CPU, None where they are not known."""
        if not is_meta(tensor):
            return tensor if _is_told(tensor) else None
        kept = self._kept.get(key_of(tensor) or 0)
        if kept is None or kept.numbers.dtype is not tensor.dtype:
            return None
        return kept.numbers.as_strided(tensor.size(), tensor.stride(), tensor.storage_offset())

    def number(self, tensor: Tensor) -> int | float | None:
        """What all of the tensor's values are, None where they differ or are not known."""
        known = self.of(tensor)
        if known is None or not known.numel():
            return None
        first: int | float = known.flatten()[0].item()
        return first if bool((known == first).all()) else None

    def follow(
        self, func: OpOverload, operator: Operator, args: Any, kwargs: Any, result: Any
    ) -> None:
        """An operator ran on meta: its values are what the CPU makes of those that are known."""
        if operator.writes:
            changed = [
                each for each in operator.written(args, kwargs) if key_of(each) in self._kept
            ]
            if changed and self._computed(func, operator, args, kwargs) is None:
                for tensor in changed:
                    self._kept.pop(key_of(tensor) or 0, None)
        elif operator.makes_storage:
            if not all(map(_may_be_known, tensors_in(as_tuple(result)))):
                return
            if operator.is_unset:  # whatever it holds is as good as nothing
                self.keep(result, torch.zeros(result.shape, dtype=result.dtype))
            else:
                self._keep(result, self._computed(func, operator, args, kwargs))

    def is_vote(self, operator: Operator, args: Any) -> bool:
        """True for the least, most, and so on of what ranks say; what this one says is known."""
        if operator.name != "c10d.allreduce_" or not _picks_one(args[2], args[0]):
            return False
        return all(self.of(tensor) is not None for tensor in args[0])

    def _computed(self, func: OpOverload, operator: Operator, args: Any, kwargs: Any) -> Any:
        """None where it cannot be said; what operators change, they change in what is kept."""
        if not operator.has_values or _RANDOM in func.tags:
            return None
        try:
            given = [self._given(value, operator) for value in args]
            named = {name: self._given(value, operator) for name, value in kwargs.items()}
        except Unknown:
            return self._decided(operator.name, args)
        try:
            return func(
                *given, **{**named, **_on_cpu(operator, named)}
            )  # and warns as the card would
        except _REFUSALS:
            return None

    def _given(self, value: Any, operator: Operator) -> Any:
        if isinstance(value, Tensor):
            known = value if _asks_shapes(operator) else self.of(value)
            if known is None:
                raise Unknown
            return known
        if isinstance(value, (list, tuple)):
            return type(value)(self._given(each, operator) for each in value)
        return value

    def _decided(self, name: str, args: Any) -> Tensor | None:
        """One side alone decides: nothing and whatever is nothing, all or whatever is all."""
        tensors = list(tensors_in(args))
        if name == CHOICE:
            deciding = [each for each in (chosen_of(args, self._truth),) if each is not None]
        elif name in BOTH | EITHER:
            deciding = [each for each in tensors if _decides(name, self.of(each))]
        else:
            return None
        known = next((self.of(each) for each in deciding), None)
        if known is None:
            return None
        return known.expand(torch.broadcast_shapes(*(each.shape for each in tensors)))

    def _keep(self, result: Any, computed: Any) -> None:
        for made, numbers in zip(as_tuple(result), as_tuple(computed), strict=False):
            if isinstance(numbers, Tensor) and isinstance(made, Tensor):
                self.keep(made, numbers)

    def keep(self, made: Tensor, numbers: Tensor) -> None:
        """The fresh tensor `made` has these numbers, on the CPU, if there are not too many."""
        storage = storage_of(made)
        room = storage.nbytes() // made.element_size()
        if room > MOST[made.dtype] or made.shape != numbers.shape:
            return  # a shape that depends on values is as large as it can be
        flat = torch.zeros(room, dtype=made.dtype)
        flat.as_strided(made.size(), made.stride(), made.storage_offset()).copy_(numbers)
        key = storage._cdata

        def gone(reference: weakref.ref[Any]) -> None:
            kept = self._kept.get(key)
            if kept is not None and kept.storage is reference:
                del self._kept[key]

        self._kept[key] = _Kept(flat, weakref.ref(storage, gone))


def _may_be_known(tensor: Tensor) -> bool:
    is_small = tensor.numel() <= MOST.get(tensor.dtype, 0)
    return is_small and is_meta(tensor) and tensor.layout is torch.strided


def _is_told(tensor: Tensor) -> bool:
    """True for a tensor of the CPU that says what is to be done; parameters say nothing."""
    return tensor.numel() <= (MOST[tensor.dtype] if tensor.dtype in _WHOLE else 1)


def _decides(name: str, known: Tensor | None) -> bool:
    if known is None:
        return False
    if name in BOTH:
        return not known.any()
    return known.dtype is torch.bool and bool(known.all())


def _asks_shapes(operator: Operator) -> bool:
    return operator.takes_device and operator.name != _CAST


def _on_cpu(operator: Operator, kwargs: dict[str, Any]) -> dict[str, Any]:
    if _asks_shapes(operator) or "device" in kwargs:
        return {"device": _CPU, "pin_memory": None} if "pin_memory" in kwargs else {"device": _CPU}
    return {}


def _picks_one(reduction: Any, tensors: list[Tensor]) -> bool:
    if hasattr(reduction, "op"):
        return reduction.op() in _VOTES
    # Torch 2.9 does not say; what is added up are gradients.
    return not any(tensor.is_floating_point() for tensor in tensors)
