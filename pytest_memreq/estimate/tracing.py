"""A module run once on tensors that have shapes and no values, to see what its layers make."""

from __future__ import annotations

import copy
import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_map_only

from pytest_memreq.errors import MemreqError

META = torch.device("meta")

# Where a module keeps the hooks that its user registered.
_HOOKS = tuple(name for name in vars(nn.Module()) if name.endswith("_hooks"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What one call of a layer allocated for its output, for the whole batch of the inputs."""

    name: str
    shapes: tuple[tuple[int, ...], ...]


def on_meta(factory: Callable[[], object]) -> object:
    """What the factory makes, without values where that works: weights may be too many to hold."""
    try:
        with META:
            return factory()
    except (NotImplementedError, RuntimeError):  # what torch says to a value asked of meta
        return factory()


def calls_of(
    model: nn.Module, inputs: tuple[Any, ...], keyword_inputs: dict[str, Any]
) -> tuple[Call, ...]:
    """What each call of a layer allocates, in order, when a copy of the model runs on the inputs.

    MemreqError names a module that does not run on them, and says why.
    """
    try:
        # No other mode may see this: a pretended device would count what it allocates.
        with _disable_current_modes(), torch.enable_grad():
            twin, (arguments, keywords) = _without_values(model, (inputs, keyword_inputs))
            recorder = _Recorder.of(twin, (arguments, keywords))
            with _OnMeta():
                twin(*arguments, **keywords)
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

    calls: list[Call] = field(default_factory=list)
    _seen: dict[int, torch.UntypedStorage] = field(default_factory=dict)

    @classmethod
    def of(cls, model: nn.Module, inputs: Any) -> _Recorder:
        """A recorder that listens to the layers of `model`, see `_is_layer`."""
        recorder = cls()
        recorder._are_new(tensors_in((inputs, *model.parameters(), *model.buffers())))
        for name, module in model.named_modules():
            if _is_layer(name, module):
                module.register_forward_hook(recorder._hook(name), with_kwargs=True)
        return recorder

    def _hook(self, name: str) -> Any:
        def note(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            self._are_new(tensors_in((args, kwargs)))
            shapes = tuple(tuple(tensor.shape) for tensor in self._are_new(tensors_in(output)))
            if shapes:
                self.calls.append(Call(name=name, shapes=shapes))

        return note

    def _are_new(self, tensors: Iterable[Tensor]) -> list[Tensor]:
        return [tensor for tensor in tensors if self._is_new(tensor)]

    def _is_new(self, tensor: Tensor) -> bool:
        storage = tensor.untyped_storage()
        key = storage._cdata  # the storage itself; data_ptr() is 0 where there are no values
        is_new = key not in self._seen
        self._seen[key] = storage
        return is_new


def _without_values(model: nn.Module, inputs: Any) -> tuple[nn.Module, Any]:
    """Copies that share nothing with the originals, every tensor of them without values."""
    # deepcopy looks up here first: no tensor is copied, and no hook of the user's is called.
    memo: dict[int, Any] = {}
    for module in model.modules():
        for kept in (module._parameters, module._buffers, vars(module)):
            memo.update({id(t): _empty(t) for t in kept.values() if isinstance(t, Tensor)})
        memo.update({id(vars(module)[name]): OrderedDict() for name in _HOOKS})
    memo.update({id(tensor): _empty(tensor) for tensor in tensors_in(inputs)})
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


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors within lists, tuples, dicts and dataclasses."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from tensors_in(tuple(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from tensors_in([getattr(value, f.name) for f in dataclasses.fields(value)])
