"""The layer table of a module: a copy of it runs once on tensors that have shapes and no values."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_map_only

from pytest_memreq.errors import MemreqError
from pytest_memreq.estimate.formula import ModelCounts
from pytest_memreq.requirement import LayerRow

INPUT = "Input"
META = torch.device("meta")

# Where a module keeps the hooks that its user registered.
_HOOKS = tuple(name for name in vars(nn.Module()) if name.endswith("_hooks"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """What one call of a layer allocated for its output, for the whole batch of the inputs."""

    name: str
    shapes: tuple[tuple[int, ...], ...]


def is_module(model: object) -> TypeGuard[nn.Module]:
    """True for what `count_module` takes."""
    return isinstance(model, nn.Module)


def empty_input(sizes: Sequence[int], dtype: str) -> Tensor:
    """A tensor of that shape without values; MemreqError where torch has no dtype of that name."""
    found = getattr(torch, dtype, None)
    if not isinstance(found, torch.dtype):
        raise MemreqError(f"{dtype!r} is no dtype of torch; write float32, bfloat16 or int64")
    return torch.empty(tuple(sizes), dtype=found, device="meta")


def count_module(model: nn.Module, inputs: tuple[Any, ...]) -> ModelCounts:
    """Elements of the module, and its layer table where there are inputs to run it on.

    A parameter or buffer that several layers share counts once. MemreqError names a module that
    does not run on the inputs, or whose output is no multiple of their batch.
    """
    parameters = list(model.parameters())
    _check_initialized(model)
    layers = _layer_table(model, inputs) if inputs else ()
    return ModelCounts(
        parameters=_elements(parameters),
        trainable_parameters=_elements(p for p in parameters if p.requires_grad),
        buffers_bytes=sum(b.numel() * b.element_size() for b in model.buffers()),
        activations=sum(row.activation_elements for row in layers) if inputs else None,
        layers=layers,
    )


def _layer_table(model: nn.Module, inputs: tuple[Any, ...]) -> tuple[LayerRow, ...]:
    tensors = list(_tensors(inputs))
    batch = _batch_of(tensors)
    counter = _ParameterCounter(model)
    rows = [_input_row(tensor, batch) for tensor in tensors]
    rows += [_row(call, counter, batch) for call in _calls(model, inputs)]
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
        for key, parameter in self._modules[name].named_parameters(recurse=False):
            if id(parameter) not in self._given:
                yield key, parameter


def _row(call: _Call, counter: _ParameterCounter, batch: int) -> LayerRow:
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


def _calls(model: nn.Module, inputs: tuple[Any, ...]) -> tuple[_Call, ...]:
    try:
        # No other mode may see this: a pretended device would count what it allocates.
        with _disable_current_modes(), torch.enable_grad():
            twin, twin_inputs = _without_values(model, inputs)
            recorder = _Recorder.of(twin, twin_inputs)
            with _OnMeta():
                twin(*twin_inputs)
    except Exception as error:  # the user's code runs here and may raise anything
        said = " ".join(str(error).split()) or "no message"
        raise MemreqError(
            f"{type(model).__name__} does not run on these inputs: {type(error).__name__}: "
            f"{said[:300]}"
        ) from error
    return tuple(recorder.calls)


class _OnMeta(TorchDispatchMode):
    """Runs every operator without values, whatever device it names or its tensors are on."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        args, kwargs = tree_map_only(Tensor, _on_meta, (args, dict(kwargs or {})))
        if any(argument.name == "device" for argument in func._schema.arguments):
            kwargs = {**kwargs, "device": META, "pin_memory": None}
        return func(*args, **kwargs)


def _on_meta(tensor: Tensor) -> Tensor:
    return tensor if tensor.untyped_storage().device == META else _empty(tensor)


@dataclass(slots=True)
class _Recorder:
    """Notes each output in memory of its own; memory is told apart by its storage.

    An output in a storage seen before is its layer's input changed in place, a view of it, or
    something kept: nothing new. The storages are held, so that no address is used twice.
    """

    calls: list[_Call] = field(default_factory=list)
    _seen: dict[int, torch.UntypedStorage] = field(default_factory=dict)

    @classmethod
    def of(cls, model: nn.Module, inputs: tuple[Any, ...]) -> _Recorder:
        """A recorder that listens to the layers of `model`, see `_is_layer`."""
        recorder = cls()
        recorder._are_new(_tensors((inputs, *model.parameters(), *model.buffers())))
        for name, module in model.named_modules():
            if _is_layer(name, module):
                module.register_forward_hook(recorder._hook(name), with_kwargs=True)
        return recorder

    def _hook(self, name: str) -> Any:
        def note(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            self._are_new(_tensors((args, kwargs)))
            shapes = tuple(tuple(tensor.shape) for tensor in self._are_new(_tensors(output)))
            if shapes:
                self.calls.append(_Call(name=name, shapes=shapes))

        return note

    def _are_new(self, tensors: Iterable[Tensor]) -> list[Tensor]:
        return [tensor for tensor in tensors if self._is_new(tensor)]

    def _is_new(self, tensor: Tensor) -> bool:
        storage = tensor.untyped_storage()
        key = storage._cdata  # the storage itself; data_ptr() is 0 where there are no values
        is_new = key not in self._seen
        self._seen[key] = storage
        return is_new


def _without_values(model: nn.Module, inputs: tuple[Any, ...]) -> tuple[nn.Module, tuple[Any, ...]]:
    """Copies that share nothing with the originals, every tensor of them without values."""
    # deepcopy looks up here first: no tensor is copied, and no hook of the user's is called.
    memo: dict[int, Any] = {}
    for module in model.modules():
        for kept in (module._parameters, module._buffers, vars(module)):
            memo.update({id(t): _empty(t) for t in kept.values() if isinstance(t, Tensor)})
        memo.update({id(vars(module)[name]): OrderedDict() for name in _HOOKS})
    memo.update({id(tensor): _empty(tensor) for tensor in _tensors(inputs)})
    return copy.deepcopy(model, memo), copy.deepcopy(inputs, memo)


def _is_layer(name: str, module: nn.Module) -> bool:
    # A parametrization, such as weight norm, makes a weight of its layer, not an output.
    held = [child for child, _ in module.named_children() if child != "parametrizations"]
    return not held and "parametrizations" not in name.split(".")


def _empty(tensor: Tensor) -> Tensor:
    empty = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device=META)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, requires_grad=tensor.requires_grad)
    return empty.requires_grad_(tensor.requires_grad and tensor.is_leaf)


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors within lists, tuples, dicts and dataclasses."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from _tensors([getattr(value, f.name) for f in dataclasses.fields(value)])


def _elements(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)


def _check_initialized(model: nn.Module) -> None:
    tensors = (*model.parameters(), *model.buffers())
    if any(is_lazy(tensor) for tensor in tensors):
        raise MemreqError(
            f"{type(model).__name__} has lazy layers without shapes; run it once before"
        )
