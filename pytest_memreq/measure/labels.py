"""What memory is, by address: parameters, gradients, buffers, optimizer states, inputs.

Modules are followed by torch's global module hooks, optimizer steps by its optimizer hooks. What a
root module holds is marked when its forward begins and ends, what an optimizer holds before and
after each step, and both at the end as far as they are still alive. Of a root's inputs those
are marked that are passed by position and that autograd did not make: no hook sees the others.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.modules import module as module_hooks
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.optim import optimizer as optimizer_hooks
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from torch.utils._pytree import tree_leaves

from pytest_memreq.measure.breakdowns import Mark
from pytest_memreq.measure.phases import Change, Phase, PhaseKind

# Where torch.compile, checkpoint_wrapper and FSDP1 keep the module that they wrap, as
# torch/distributed/fsdp/_common_utils.py (clean_tensor_name) has it.
WRAPPERS = frozenset({"_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"})
# torch.compile of a module warns of global hooks, which are not the user's.
HOOKS_ARE_SEEN = r"Using `torch\.compile\(module\)` when there are global hooks"
Owned = tuple[Any, str | None]  # what may be a tensor, and the module that it belongs to


class Labels:
    """Marks and phases of the work on one CUDA device; `clock` counts its operations."""

    def __init__(self, index: int, clock: Callable[[], int]) -> None:
        self.marks: list[Mark] = []
        self.changes: list[Change] = []
        self._index = index
        self._clock = clock
        self._phases: list[tuple[PhaseKind, bool]] = []
        self._ends: dict[int, int] = {}
        self._stack: list[tuple[str, int]] = []  # module, phase
        self._names: weakref.WeakKeyDictionary[Module, str] = weakref.WeakKeyDictionary()
        self._roots: weakref.WeakSet[Module] = weakref.WeakSet()
        self._stepped: weakref.WeakSet[Optimizer] = weakref.WeakSet()

    @contextmanager
    def following(self) -> Iterator[None]:
        """Hooks are in place within it, and gone after it."""
        handles = [
            module_hooks.register_module_forward_pre_hook(self._enter_module),
            module_hooks.register_module_forward_hook(self._leave_module, always_call=True),
            optimizer_hooks.register_optimizer_step_pre_hook(self._enter_optimizer),
            optimizer_hooks.register_optimizer_step_post_hook(self._leave_optimizer),
        ]
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=HOOKS_ARE_SEEN)
                yield
        finally:
            for handle in handles:
                handle.remove()

    def mark_all(self) -> None:
        """What is still alive of what was seen."""
        for root in list(self._roots):
            self._mark_module(root)
        for optimizer in list(self._stepped):
            self._mark_optimizer(optimizer)

    def phases(self, now: int) -> dict[int, Phase]:
        """By number; what has not ended goes on until `now`."""
        return {
            number: Phase(kind=kind, ended=self._ends.get(number, now), is_recorded=is_recorded)
            for number, (kind, is_recorded) in enumerate(self._phases)
        }

    def _enter_module(self, module: Module, inputs: Any) -> None:
        if torch.compiler.is_compiling():  # or the hook would be compiled into the graph
            return
        if self._stack and self._stack[-1][0]:
            phase = self._stack[-1][1]
        else:
            phase = self._enter_root(module, inputs)
        self._enter(self._name_of(module), phase)

    def _enter_root(self, module: Module, inputs: Any) -> int:
        if module not in self._roots:
            self._roots.add(module)
            for name, child in module.named_modules():
                self._names.setdefault(child, _plain_name(name) or type(child).__name__)
        self._mark_module(module)
        given = (value for value in tree_leaves(inputs) if isinstance(value, Tensor))
        self._mark("inputs", ((value, None) for value in given if value.grad_fn is None))
        is_backward = torch._C._current_autograd_node() is not None  # checkpointing repeats it
        return self._begin("backward" if is_backward else "forward", torch.is_grad_enabled())

    def _leave_module(self, module: Module, _inputs: Any, _result: Any) -> None:
        if torch.compiler.is_compiling() or not self._stack:
            return
        _, phase = self._stack[-1]
        if self._leave() != phase:
            self._end(phase)
            self._mark_module(module)

    def _enter_optimizer(self, optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        if torch.compiler.is_compiling():
            return
        self._stepped.add(optimizer)
        self._mark_optimizer(optimizer)  # its gradients are alive now
        self._enter("", self._begin("optimizer", is_recorded=False))

    def _leave_optimizer(self, optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        if torch.compiler.is_compiling() or not self._stack:
            return
        _, phase = self._stack[-1]
        self._leave()
        self._end(phase)
        self._mark_optimizer(optimizer)

    def _begin(self, kind: PhaseKind, is_recorded: bool) -> int:
        self._phases.append((kind, is_recorded))
        return len(self._phases) - 1

    def _end(self, phase: int) -> None:
        self._ends[phase] = self._clock()

    def _enter(self, module: str, phase: int) -> None:
        self._stack.append((module, phase))
        self._note_change()

    def _leave(self) -> int | None:
        """The phase that goes on."""
        self._stack.pop()
        self._note_change()
        return self._stack[-1][1] if self._stack else None

    def _note_change(self) -> None:
        module, phase = self._stack[-1] if self._stack else (None, None)
        self.changes.append(Change(moment=self._clock(), module=module, phase=phase))

    def _name_of(self, module: Module) -> str:
        if module not in self._names:  # made on the way
            above = f"{self._stack[-1][0]}." if self._stack else ""
            self._names[module] = f"{above}{type(module).__name__}"
        return self._names[module]

    def _mark_module(self, module: Module) -> None:
        parameters = ((value, _owner(name)) for name, value in module.named_parameters())
        self._mark_parameters(parameters)
        buffers = ((value, _owner(name)) for name, value in module.named_buffers())
        self._mark("buffers", buffers)

    def _mark_optimizer(self, optimizer: Optimizer) -> None:
        owners = {
            id(parameter): _owner(name)
            for root in list(self._roots)
            for name, parameter in root.named_parameters()
        }
        held = (value for group in optimizer.param_groups for value in group["params"])
        self._mark_parameters((value, owners.get(id(value))) for value in held)
        states = (
            (value, owners.get(id(parameter)) if _may_belong(value, parameter) else None)
            for parameter, state in optimizer.state.items()
            for value in tree_leaves(state)
        )
        self._mark("optimizer_states", states)

    def _mark_parameters(self, parameters: Iterable[Owned]) -> None:
        # One that is lazy has no memory yet, and answers to nearly nothing.
        made = [(value, owner) for value, owner in parameters if not is_lazy(value)]
        self._mark("parameters", made)
        self._mark("gradients", ((value.grad, owner) for value, owner in made))

    def _mark(self, category: str, values: Iterable[Owned]) -> None:
        now = self._clock()
        for value, owner in values:
            for tensor in _plain_tensors(value):
                address = _address(tensor, self._index)
                if address is not None:
                    self.marks.append(_mark_of(tensor, address, now, category, owner))


def _may_belong(state: object, parameter: Tensor) -> bool:
    """False for what LBFGS keeps of all parameters together, under the first of them."""
    return isinstance(state, Tensor) and state.numel() <= parameter.numel()


def _mark_of(tensor: Tensor, address: int, now: int, category: str, owner: str | None) -> Mark:
    # Several tensors may share a block: parameters that were flattened, gradients in buckets.
    is_whole = tensor.numel() * tensor.element_size() == tensor.untyped_storage().nbytes()
    return Mark(
        address=address,
        moment=now,
        category=category,
        module=owner,
        shape=tuple(tensor.shape) if is_whole else None,
        dtype=str(tensor.dtype).removeprefix("torch."),
    )


def _plain_tensors(value: object) -> Iterator[Tensor]:
    """The tensors that a subclass is made of, such as a DTensor's local part."""
    if not isinstance(value, Tensor):
        return
    if is_traceable_wrapper_subclass(value):
        names, _ = value.__tensor_flatten__()
        for name in names:
            yield from _plain_tensors(getattr(value, name))
    else:
        yield value


def _address(tensor: Tensor, index: int) -> int | None:
    """Where its storage begins on the device; None if it is elsewhere or nowhere."""
    try:
        storage = tensor.untyped_storage()
        if storage.device != torch.device("cuda", index):
            return None
        return storage.data_ptr() or None
    except RuntimeError:  # sparse, or a stand-in as within torch.func: no storage of its own
        return None


def _owner(name: str) -> str:
    return _plain_name(name).rpartition(".")[0]


def _plain_name(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)
