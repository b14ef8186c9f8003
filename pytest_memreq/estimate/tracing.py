"""A module run once on tensors that have shapes and no values, to see what its layers make."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._device import DeviceContext
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_map_only

from pytest_memreq.errors import MemreqError
from pytest_memreq.estimate.layer_rules import OPERATOR_RULES, RULES, Rule
from pytest_memreq.estimate.twins import META, empty, tensors_in, twin_of

Forward = Callable[..., Any]


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
    # No other mode may see this: a pretended device would count what it allocates.
    with _disable_current_modes(), torch.enable_grad():
        try:
            return _run(model, (inputs, keyword_inputs), _Quickly(META))
        except Exception:  # noqa: BLE001 - one that names a device, most often; it runs below
            return _run_anywhere(model, (inputs, keyword_inputs))


def _run_anywhere(model: nn.Module, inputs: tuple[Any, Any]) -> tuple[Call, ...]:
    try:
        return _run(model, inputs, _OnMeta())
    except Exception as error:  # the user's code runs here and may raise anything
        said = " ".join(str(error).split()) or "no message"
        raise MemreqError(
            f"{type(model).__name__} does not run on these inputs: {type(error).__name__}: "
            f"{said[:300]}"
        ) from error


def _run(
    model: nn.Module, inputs: tuple[Any, Any], mode: AbstractContextManager[Any]
) -> tuple[Call, ...]:
    twin, (arguments, keywords) = twin_of(model, inputs)
    recorder = _Recorder.of(twin, (arguments, keywords))
    with mode:
        twin(*arguments, **keywords)
    return tuple(recorder.calls)


class _Quickly(DeviceContext):
    """Makes tensors on the device, and follows the rules of common operators."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        rule = OPERATOR_RULES.get(func)
        made = rule(*args, **(kwargs or {})) if rule is not None else None
        if made is not None:
            return made
        return super().__torch_function__(func, types, args, kwargs)  # type: ignore[no-untyped-call]  # torch's


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
    return tensor if tensor.untyped_storage().device == META else empty(tensor)


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
        recorder._are_new(tensors_in(inputs))
        for name, module in model.named_modules():
            if isinstance(module, torch.jit.ScriptModule):
                if _is_layer(name, module):
                    module.register_forward_hook(recorder._hook(name), with_kwargs=True)
            elif _is_layer(name, module):
                rule = RULES.get(type(module))
                own = module.forward if rule is None else _by_rule(module, rule)
                vars(module)["forward"] = recorder._listening(name, own)
        return recorder

    def _listening(self, name: str, forward: Forward) -> Forward:
        def listening(*args: Any, **kwargs: Any) -> Any:
            output = forward(*args, **kwargs)
            self._note(name, args, kwargs, output)
            return output

        return listening

    def _hook(self, name: str) -> Any:
        def note(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            self._note(name, args, kwargs, output)

        return note

    def _note(self, name: str, args: Any, kwargs: Any, output: Any) -> None:
        self._are_new(tensors_in(args))
        if kwargs:
            self._are_new(tensors_in(kwargs))
        shapes = tuple([tuple(tensor.shape) for tensor in self._are_new(tensors_in(output))])
        if shapes:
            self.calls.append(Call(name=name, shapes=shapes))

    def _are_new(self, tensors: Iterable[Tensor]) -> list[Tensor]:
        return [tensor for tensor in tensors if self._is_new(tensor)]

    def _is_new(self, tensor: Tensor) -> bool:
        storage = tensor.untyped_storage()
        key = storage._cdata  # the storage itself; data_ptr() is 0 where there are no values
        if key in self._seen:
            return False
        self._seen[key] = storage
        return True


def _by_rule(module: nn.Module, rule: Rule) -> Forward:
    own: Forward = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and not kwargs and isinstance(args[0], Tensor):
            with torch._C.DisableTorchFunction():  # a mode would look at all that a rule calls
                made = rule(module, args[0])
            if made is not None:
                return made
        return own(*args, **kwargs)

    return forward


def _is_layer(name: str, module: nn.Module) -> bool:
    # A parametrization, such as weight norm, makes a weight of its layer, not an output.
    held = [child for child, _ in module.named_children() if child != "parametrizations"]
    return not held and "parametrizations" not in name.split(".")
