"""Who asks for memory: the module, the source line, the phase of the step.

Module calls are followed by torch's global module hooks, optimizer steps by its optimizer hooks.
Backward work is attributed to the forward work it belongs to, by autograd's sequence numbers: a
node is given the next number when the forward operator records it, just before that operator
reaches the dispatch mode.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter, RNNBase
from torch.nn.modules import module as module_hooks
from torch.optim import Optimizer
from torch.optim import optimizer as optimizer_hooks

from pytest_memreq.simulate.ledger import Block, Ledger, PhaseKind
from pytest_memreq.simulate.numbering import Numbering
from pytest_memreq.simulate.storages import Storages

RECURRENT = (
    "recurrent layers are simulated as products; cuDNN, if it runs them, allocates otherwise"
)
# Where torch.compile, checkpoint_wrapper and FSDP1 keep the module that they wrap, as
# torch/distributed/fsdp/_common_utils.py (clean_tensor_name) has it.
WRAPPERS = frozenset({"_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"})

_current_node = torch._C._current_autograd_node
_sequence_number = torch._C._autograd._get_sequence_nr
_LIBRARIES = (
    f"{Path(torch.__file__).parent}{os.sep}",
    f"{Path(__file__).parent.parent}{os.sep}",
    "<",  # frozen and generated code
)


@dataclass(frozen=True, slots=True)
class Place:
    """A module's qualified name, "" outside of all, and the user's line as `file:line`."""

    module: str
    source: str | None


class Attribution:
    """Follows modules, optimizers and autograd while active, and marks what they hold."""

    def __init__(
        self, ledger: Ledger, storages: Storages, notes: dict[str, None], numbering: Numbering
    ) -> None:
        self._ledger = ledger
        self._numbering = numbering
        self._notes = notes
        self._storages = storages
        self._stack: list[str] = []
        self._optimizers = 0
        self._calls = 0
        self._first_operation = _sequence_number()
        self._names: weakref.WeakKeyDictionary[Module, str] = weakref.WeakKeyDictionary()
        self._roots: weakref.WeakSet[Module] = weakref.WeakSet()
        self._stepped: weakref.WeakSet[Optimizer] = weakref.WeakSet()
        self._forward_places: dict[int, Place] = {}
        self._sources: dict[tuple[CodeType, int], str] = {}
        self._library_code: dict[CodeType, bool] = {}

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
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._stack.clear()
            self._optimizers = 0

    @property
    def in_module(self) -> bool:
        """True within a module's forward, also when checkpointing repeats it during backward."""
        return bool(self._stack)

    def begin(self) -> None:
        """Count what autograd records from now on."""
        self._first_operation = _sequence_number()

    @property
    def recorded_operations(self) -> int:
        """How many operations autograd recorded since `begin`."""
        return int(_sequence_number() - self._first_operation)

    @property
    def call(self) -> int:
        """Which call of an outermost module is running, counted from 1; 0 outside of all."""
        return self._calls if self._stack else 0

    def place(self) -> Place:
        """Where the operator that is running belongs; sets the phase by the way."""
        node = _current_node()
        self._ledger.enter(self._phase(node))
        place = self._place(node)
        if node is None or torch.is_grad_enabled():  # what backward records is run backward as well
            self._forward_places[_sequence_number() - 1] = place
        return place

    def _place(self, node: Any) -> Place:
        if node is not None and not self._stack:
            known = self._forward_places.get(self._numbering.made_as(node))
            if known is not None:
                return known
        return Place(self._stack[-1] if self._stack else "", self._user_source())

    def forget_graph(self) -> None:
        """Drop what was remembered of forward work; later backward work finds no place."""
        self._forward_places.clear()

    def accumulates_gradient(self) -> bool:
        """True while autograd hands a gradient over to its parameter or leaf."""
        node = _current_node()
        return node is not None and node.name() == "torch::autograd::AccumulateGrad"

    @property
    def is_backward(self) -> bool:
        """True while autograd runs a node."""
        return _current_node() is not None

    def mark_all(self) -> None:
        """Give parameters, buffers, gradients and optimizer states their categories."""
        for root in list(self._roots):
            self._mark_module(root)
        for optimizer in list(self._stepped):
            self._mark_optimizer(optimizer)

    def _phase(self, node: object) -> PhaseKind:
        if self._optimizers:
            return "optimizer"
        return "forward" if node is None else "backward"

    def _enter_module(self, module: Module, _args: Any) -> None:
        if not self._stack:
            self._enter_root(module)
        name = self._names.get(module)
        if name is None:
            name = f"{self._stack[-1]}.{type(module).__name__}" if self._stack else "?"
            self._names[module] = name
        self._stack.append(name)
        if isinstance(module, RNNBase):
            self._notes.setdefault(RECURRENT)

    def _enter_root(self, module: Module) -> None:
        self._calls += 1
        if module not in self._roots:
            self._roots.add(module)
            for name, child in module.named_modules():
                self._names.setdefault(child, plain_name(name) or type(child).__name__)
        self._mark_module(module)  # now, for it may be gone when the result is made

    def _leave_module(self, _module: Module, _args: Any, _result: Any) -> None:
        if self._stack:
            self._stack.pop()

    def _enter_optimizer(self, optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        self._stepped.add(optimizer)
        self._optimizers += 1
        self._ledger.enter("optimizer")

    def _leave_optimizer(self, optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        self._optimizers = max(0, self._optimizers - 1)
        self._ledger.enter("forward")
        self._mark_optimizer(optimizer)

    def _mark_optimizer(self, optimizer: Optimizer) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                self._mark_parameter(parameter)
        for state in optimizer.state.values():
            for value in state.values() if isinstance(state, dict) else ():
                self._mark(value, "optimizer_states")

    def _mark_module(self, module: Module) -> None:
        for name, parameter in module.named_parameters():
            block = self._mark_parameter(parameter)
            if block is not None and not block.module:
                block.module = plain_name(name).rpartition(".")[0]
        for buffer in module.buffers():
            self._mark(buffer, "buffers")

    def _mark_parameter(self, parameter: Parameter) -> Block | None:
        if parameter.is_leaf:  # torch warns who asks others: functional_call puts them in a module
            self._mark(parameter.grad, "gradients")
        return self._mark(parameter, "parameters")

    def _mark(self, value: object, category: str) -> Block | None:
        value = getattr(value, "_local_tensor", value)  # of a DTensor: what this rank has
        block = self._storages.block_of(value) if isinstance(value, Tensor) else None
        if block is None or (block.is_gathered and category == "parameters"):
            return None  # a copy for as long as a module works is no parameter of this rank's
        block.category = category
        return block

    def _user_source(self) -> str | None:
        frame: FrameType | None = sys._getframe(2)
        while frame is not None and self._is_library(frame.f_code):
            frame = frame.f_back
        if frame is None:
            return None
        key = (frame.f_code, frame.f_lineno)
        if key not in self._sources:
            self._sources[key] = f"{short_path(frame.f_code.co_filename)}:{frame.f_lineno}"
        return self._sources[key]

    def _is_library(self, code: CodeType) -> bool:
        known = self._library_code.get(code)
        if known is None:
            known = self._library_code[code] = is_library(code.co_filename)
        return known


def is_library(path: str) -> bool:
    """True for a file of torch's or ours, and for code that is in no file."""
    return path.startswith(_LIBRARIES)


def plain_name(name: str) -> str:
    """A module's name without the parts that wrappers put in, as if it was not wrapped."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def short_path(path: str) -> str:
    """A file as a reader of the project knows it: from here down, else its last two parts."""
    relative = os.path.relpath(path)
    if relative.startswith(os.pardir):
        return "/".join(path.replace(os.sep, "/").split("/")[-2:])
    return relative.replace(os.sep, "/")
