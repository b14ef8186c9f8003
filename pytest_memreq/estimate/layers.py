"""The layer table of a module: a copy of it runs once on tensors that have shapes and no values."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from pytest_memreq.errors import MemreqError
from pytest_memreq.estimate.model import Buffers, Model, Parameter
from pytest_memreq.estimate.tracing import Call, calls_of
from pytest_memreq.estimate.twins import tensors_in
from pytest_memreq.requirement import LayerRow

INPUT = "Input"


def is_module(model: object) -> TypeGuard[nn.Module]:
    """True for what `count_module` takes."""
    return isinstance(model, nn.Module)


def empty_input(sizes: Sequence[int], dtype: str) -> Tensor:
    """A tensor of that shape without values; MemreqError where torch has no dtype of that name."""
    found = getattr(torch, dtype, None)
    if not isinstance(found, torch.dtype):
        raise MemreqError(f"{dtype!r} is no dtype of torch; write float32, bfloat16 or int64")
    return torch.empty(tuple(sizes), dtype=found, device="meta")


def count_module(
    model: nn.Module, inputs: tuple[Any, ...], keyword_inputs: Mapping[str, Any]
) -> Model:
    """Parameters and buffers of the module, and its layer table if there are inputs to run it on.

    A parameter or buffer that several layers share counts once. MemreqError names a module that
    does not run on the inputs, or whose output is no multiple of their batch.
    """
    _check_initialized(model)
    is_run = bool(inputs or keyword_inputs)
    layers = _layer_table(model, inputs, dict(keyword_inputs)) if is_run else ()
    return Model(
        parameters=_parameters(model),
        buffers=_buffers(model.buffers()),
        activation_elements=sum(row.activation_elements for row in layers) if is_run else None,
        layers=layers,
    )


def _parameters(model: nn.Module) -> tuple[Parameter, ...]:
    """Parameters of one kind and shape together."""
    kinds = Counter((p.shape, p.requires_grad, p.dtype) for p in model.parameters())
    return tuple(
        Parameter(
            shape=tuple(shape),
            count=count,
            is_trainable=is_trainable,
            element_bytes=None if dtype.is_floating_point or dtype.is_complex else dtype.itemsize,
        )
        for (shape, is_trainable, dtype), count in kinds.items()
    )


def _buffers(buffers: Iterable[Tensor]) -> Buffers:
    held = list(buffers)
    floating = [buffer for buffer in held if buffer.is_floating_point()]
    floating_bytes = sum(buffer.numel() * buffer.element_size() for buffer in floating)
    return Buffers(
        floating_elements=_elements(floating),
        floating_bytes=floating_bytes,
        other_bytes=sum(b.numel() * b.element_size() for b in held) - floating_bytes,
    )


def _layer_table(
    model: nn.Module, inputs: tuple[Any, ...], keyword_inputs: dict[str, Any]
) -> tuple[LayerRow, ...]:
    tensors = list(tensors_in((inputs, keyword_inputs)))
    batch = _batch_of(tensors)
    counter = _ParameterCounter(model)
    rows = [_input_row(tensor, batch) for tensor in tensors]
    rows += [_row(call, counter, batch) for call in calls_of(model, inputs, keyword_inputs)]
    # What no layer in the table holds: parameters of a container, of a layer that was not called
    # or that made no output of its own.
    rows += [counter.row(name) for name in counter.names if counter.holds(name)]
    return tuple(rows)


class _ParameterCounter:
    """Weights and biases of each module's own, every parameter given out once."""

    def __init__(self, model: nn.Module) -> None:
        self._modules = dict(model.named_modules())
        self._given: set[int] = set()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._modules)

    def holds(self, name: str) -> bool:
        """True where the module has parameters that were not given out yet."""
        return any(True for _ in self._own(name))

    def row(self, name: str, shape: tuple[int, ...] = (), elements: int = 0) -> LayerRow:
        """The module's row, with those of its parameters that no row before has."""
        own = dict(self._own(name))
        self._given.update(map(id, own.values()))
        kind = type(self._modules[name]).__name__
        return LayerRow(
            name=name or kind,
            kind=kind,
            output_shape=shape,
            activation_elements=elements,
            weight_elements=_elements(p for key, p in own.items() if "bias" not in key),
            bias_elements=_elements(p for key, p in own.items() if "bias" in key),
        )

    def _own(self, name: str) -> Iterator[tuple[str, nn.Parameter]]:
        for key, parameter in self._modules[name]._parameters.items():
            if parameter is not None and id(parameter) not in self._given:
                yield key, parameter


def _row(call: Call, counter: _ParameterCounter, batch: int) -> LayerRow:
    samples = [_one_sample(call.name, shape, batch) for shape in call.shapes]
    return counter.row(call.name, samples[0], sum(map(math.prod, samples)))


def _input_row(tensor: Tensor, batch: int) -> LayerRow:
    shape = _one_sample(INPUT, tuple(tensor.shape), batch)
    return LayerRow(
        name=INPUT,
        kind=INPUT,
        output_shape=shape,
        activation_elements=math.prod(shape),
        weight_elements=0,
        bias_elements=0,
    )


def _batch_of(tensors: Iterable[Tensor]) -> int:
    """Samples in the inputs: the first dimension of the first tensor that has any."""
    batch = next((tensor.shape[0] for tensor in tensors if tensor.dim() > 0), 1)
    if batch == 0:
        raise MemreqError("the first dimension of the input is 0; give one sample or more")
    return batch


def _one_sample(name: str, shape: tuple[int, ...], batch: int) -> tuple[int, ...]:
    """The share of one sample in a shape; a scalar belongs to the batch and stays whole."""
    if not shape:
        return shape
    if shape[0] == batch:
        return shape[1:]
    if shape[0] % batch == 0:  # batch and sequence, or windows, in one dimension
        return (shape[0] // batch, *shape[1:])
    if batch in shape:  # batch in a later dimension, as sequence-first layers have it
        at = shape.index(batch)
        return (*shape[:at], *shape[at + 1 :])
    raise MemreqError(
        f"{name or 'the model'} has shape {shape}, which is no multiple of the batch of {batch} "
        "in the first dimension of the input; give one sample, with a first dimension of 1"
    )


def _elements(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)


def _check_initialized(model: nn.Module) -> None:
    tensors = (*model.parameters(), *model.buffers())
    if any(is_lazy(tensor) for tensor in tensors):
        raise MemreqError(
            f"{type(model).__name__} has lazy layers without shapes; run it once before"
        )
