"""A copy of a module that shares nothing with it, and whose tensors have shapes and no values."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

META = torch.device("meta")

# What every module has, and where it keeps the hooks that its user registered.
_ALWAYS = frozenset(vars(nn.Module()))
HOOKS = frozenset(name for name in _ALWAYS if name.endswith("_hooks"))
# Values that a copy may share. deepcopy would find out the same, slowly.
_ATOMS = frozenset((type(None), bool, int, float, str, torch.dtype, torch.device))
_WAYS_TO_COPY = ("__deepcopy__", "__copy__", "__reduce__", "__reduce_ex__", "__getstate__")
_NOT_THERE = object()


def twin_of(model: nn.Module, inputs: Any) -> tuple[nn.Module, Any]:
    """Copies of the model, without its hooks, and of the inputs; neither has values."""
    memo = _Memo()
    memo.expect(inputs)
    modules = list(model.modules())
    classes: list[Any] = [type(module) for module in modules]
    plain = [module for module, cls in zip(modules, classes, strict=True) if _is_plain(cls)]
    memo.update({id(module): type(module).__new__(type(module)) for module in plain})
    for module in modules:
        memo.expect((module._parameters, module._buffers))
    for module in plain:
        vars(memo[id(module)]).update(_attributes(module, memo))
    for module in {*modules}.difference(plain):
        held = _held(module, memo)
        memo.update({id(vars(module)[name]): value for name, value in held.items()})
        memo.expect(tuple(vars(module).values()))
    return copy.deepcopy(model, memo), copy.deepcopy(inputs, memo)


@functools.lru_cache(maxsize=4096)
def _is_plain(cls: type[Any]) -> bool:
    """False where a class has a way of its own to be copied."""
    has_own = any(
        getattr(cls, way, None) is not getattr(nn.Module, way, None) for way in _WAYS_TO_COPY
    )
    return not has_own and not issubclass(cls, torch.jit.ScriptModule)


def _attributes(module: nn.Module, memo: _Memo) -> dict[str, Any]:
    attributes = vars(module).copy()
    attributes.update(_held(module, memo))
    attributes["_modules"] = {
        name: copy.deepcopy(child, memo) for name, child in module._modules.items()
    }
    attributes["_non_persistent_buffers_set"] = {*module._non_persistent_buffers_set}
    for name in attributes.keys() - _ALWAYS:
        attributes[name] = _copied(attributes[name], memo)
    return attributes


def _held(module: nn.Module, memo: _Memo) -> dict[str, Any]:
    """No hooks, and tensors without values."""
    held: dict[str, Any] = {name: OrderedDict() for name in HOOKS}
    for name in ("_parameters", "_buffers"):
        kept = vars(module)[name]
        held[name] = _Valueless(kept, memo) if kept else {}
    return held


def _copied(value: Any, memo: _Memo) -> Any:
    if type(value) in _ATOMS or (type(value) is tuple and _ATOMS.issuperset(map(type, value))):
        return value
    memo.expect(value)
    return copy.deepcopy(value, memo)


class _Memo(dict[int, Any]):
    """What deepcopy has copied, by id; copies of expected tensors are made when they are wanted.

    deepcopy looks here before it copies anything, so no tensor's values are ever copied.
    """

    def __init__(self) -> None:
        super().__init__()
        self._expected: dict[int, Tensor] = {}

    def expect(self, value: Any) -> None:
        """Have the tensors within the value copied without values."""
        self._expected.update({id(tensor): tensor for tensor in tensors_in(value)})

    def get(self, key: int, default: Any = None) -> Any:
        """The copy of what has this id."""
        found = super().get(key, _NOT_THERE)
        if found is not _NOT_THERE:
            return found
        if key not in self._expected:
            return default
        self[key] = made = empty(self._expected[key])
        return made


class _Valueless(dict[str, Any]):
    """A module's parameters or buffers, each made without values when it is first asked for.

    Most never are, for the shape of most layers' output is known without them.
    """

    def __init__(self, kept: Mapping[str, Any], memo: _Memo) -> None:
        super().__init__(kept)
        self._waiting = {name for name, value in kept.items() if isinstance(value, Tensor)}
        self._memo = memo

    def __deepcopy__(self, memo: object) -> _Valueless:
        return self

    def __getitem__(self, name: str) -> Any:
        self._make(name)
        return super().__getitem__(name)

    def __setitem__(self, name: str, value: Any) -> None:
        self._waiting.discard(name)
        super().__setitem__(name, value)

    def get(self, name: str, default: Any = None) -> Any:
        """As of any mapping."""
        self._make(name)
        return super().get(name, default)

    def pop(self, name: str, *default: Any) -> Any:
        """As of any mapping."""
        self._make(name)
        return super().pop(name, *default)

    def items(self) -> Any:
        """As of any mapping."""
        self._make(*self._waiting)
        return super().items()

    def values(self) -> Any:
        """As of any mapping."""
        self._make(*self._waiting)
        return super().values()

    def _make(self, *names: str) -> None:
        for name in self._waiting.intersection(names):
            self[name] = self._memo.get(id(super().__getitem__(name)))


def empty(tensor: Tensor) -> Tensor:
    """A tensor like it without values; a parameter is a parameter."""
    made = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device=META)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(made, requires_grad=tensor.requires_grad)
    return made.requires_grad_(tensor.requires_grad and tensor.is_leaf)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors within lists, tuples, dicts and dataclasses."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            if isinstance(item, Tensor):
                yield item
            elif type(item) not in _ATOMS:
                yield from tensors_in(item)
    elif isinstance(value, Mapping):
        yield from tensors_in(tuple(value.values()))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from tensors_in([getattr(value, f.name) for f in dataclasses.fields(value)])
