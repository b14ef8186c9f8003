"""The dispatch mode that takes `cuda` for meta and records every storage.

Below autograd and autocast every operator passes here. Work for the pretended card runs on its
meta kernel, which yields shapes and no values; work on CPU tensors really runs.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.nn import Buffer, Parameter
from torch.utils._python_dispatch import TorchDispatchMode

from pytest_memreq.errors import SimulationError
from pytest_memreq.simulate.accumulation import (
    IN_PLACE_IN_FORMULAS,
    is_called_by_autograd,
    would_be_in_place,
)
from pytest_memreq.simulate.allocator import OutOfDeviceMemory
from pytest_memreq.simulate.attribution import Attribution
from pytest_memreq.simulate.cards import Card
from pytest_memreq.simulate.composites import Kernel
from pytest_memreq.simulate.creation import create
from pytest_memreq.simulate.kernels import NO_SCRATCH, RESULT, Call, has_rule, scratch_of
from pytest_memreq.simulate.ledger import Block, Ledger
from pytest_memreq.simulate.operators import Operator, describe, refuse_mixed, results_on_device
from pytest_memreq.simulate.shape_rules import SHAPES
from pytest_memreq.simulate.shapes import Shapes
from pytest_memreq.simulate.storages import (
    Storages,
    as_tuple,
    bytes_of,
    is_meta,
    storage_of,
    tensors_in,
)
from pytest_memreq.simulate.streams import Streams
from pytest_memreq.simulate.summary import describe_failure
from pytest_memreq.simulate.workspaces import Workspaces, goes_to_lt

_CPU = torch.device("cpu")
_META = torch.device("meta")
_PLAIN = (Tensor, Parameter, Buffer)

# (tracer, overload, arguments, keyword arguments) -> result, or NotImplemented for the usual way.
Handler = Callable[["Tracer", OpOverload, Any, Any], Any]


class Tracer(TorchDispatchMode):
    """Runs operators for the pretended card and writes the ledger.

    `in_kernel` is true while torch's own kernels run: Python meta kernels must see meta tensors as
    such. `is_suspended` is true while another pretended device is active inside this one.
    """

    def __init__(
        self,
        ledger: Ledger,
        storages: Storages,
        attribution: Attribution,
        workspaces: Workspaces,
        composites: dict[str, Kernel],
        handlers: dict[str, Handler],
        card: Card,
        streams: Streams,
        notes: dict[str, None],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.ledger = ledger
        self.storages = storages
        self.attribution = attribution
        self.workspaces = workspaces
        self.composites = composites
        self.handlers = handlers
        self.card = card
        self._shapes = Shapes()
        self.streams = streams
        self.pretended: list[str] = []
        self.notes = notes
        self.in_kernel = False
        self.is_suspended = False

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.is_suspended:
            return func(*args, **kwargs)
        if any(kind not in _PLAIN for kind in types):
            return NotImplemented  # a subclass unwraps itself first
        operator = describe(func)
        if operator.is_composite or operator.overload in self.composites:
            return self._decompose(func, args, kwargs)
        before, self.in_kernel = self.in_kernel, True
        try:
            return self._run(func, operator, args, kwargs)
        finally:
            self.in_kernel = before

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing here is compiled; the wrapper would cost every operator a call

    def make_genuine(self, make: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """What `make` gives is meta because user code wants it so: it takes no memory."""
        before, self.is_suspended = self.is_suspended, True
        try:
            made = make(*args, **{**kwargs, "device": _META})
        finally:
            self.is_suspended = before
        self.storages.add_foreign(made)
        return made

    def is_pretended(self, tensor: Tensor) -> bool:
        """True for a tensor that user code sees on the card.

        Torch's kernels see it as meta, and so does code that set this mode aside for its own work.
        """
        return not self.in_kernel and self.storages.is_pretended(tensor) and self._is_on()

    def _is_on(self) -> bool:
        modes = range(torch._C._len_torch_dispatch_stack())
        return any(torch._C._get_dispatch_stack_at(at) is self for at in modes)

    def adopt(self, tensor: Tensor) -> Tensor:
        """A meta tensor made out of the mode's sight is one of the card's inputs."""
        self.allocate(tensor, "aten._to_copy", is_input=True)
        return tensor

    def allocate(
        self,
        tensor: Tensor,
        operator: str,
        *,
        is_input: bool = False,
        category: str | None = None,
        size_bytes: int | None = None,
    ) -> None:
        """The tensor's storage is new on the card, unless it is known or empty.

        `size_bytes` is its size there, where that is not the one on meta.
        """
        if not is_meta(tensor) or self.storages.is_known(tensor):
            return
        place = self.attribution.place()
        if self.attribution.accumulates_gradient():
            category = "gradients"
        block = Block(
            number=self.ledger.next_number(),
            requested_bytes=storage_of(tensor).nbytes() if size_bytes is None else size_bytes,
            operator=operator,
            module=place.module,
            source=place.source,
            shape=tuple(tensor.shape),
            dtype=str(tensor.dtype).removeprefix("torch."),
            born=self.ledger.phase,
            is_input=is_input and self.ledger.phase.kind == "forward" and not place.module,
            in_module=self.attribution.in_module,
            is_recorded=torch.is_grad_enabled(),
            category=category,
            stream=self.streams.current,
        )
        try:
            self.storages.add(tensor, block)
        except OutOfDeviceMemory as error:
            raise torch.OutOfMemoryError(describe_failure(block, error, self.card)) from None

    def record_stream(self, tensor: Tensor, stream: Any) -> None:
        """Another stream reads the tensor: its memory is free again only when that is over."""
        block = self.storages.block_of(tensor)
        if block is not None and stream.stream_id != block.stream:
            block.is_read_elsewhere = True

    def pretend(self, what: str) -> None:
        """Note that a made-up value was handed out, and to which line."""
        source = self.attribution.place().source
        self.pretended.append(f"{what} at {source}" if source else what)

    def _decompose(self, func: OpOverload, args: Any, kwargs: Any) -> Any:
        name = describe(func).overload
        kernel = self.composites.get(name) if any(map(is_meta, tensors_in(args))) else None
        before, self.in_kernel = self.in_kernel, False
        try:
            with self:
                return (kernel or func.decompose)(*args, **kwargs)
        finally:
            self.in_kernel = before

    def _run(self, func: OpOverload, operator: Operator, args: Any, kwargs: Any) -> Any:
        handler = self.handlers.get(operator.name)
        if handler is not None:
            result = handler(self, func, args, kwargs)
            if result is not NotImplemented:
                return result
        if operator.takes_device:
            return create(self, func, operator, args, kwargs)
        tensors = [*tensors_in(args), *tensors_in(kwargs.values())]
        pretended = [tensor for tensor in tensors if self.storages.is_pretended(tensor)]
        if not pretended:
            return self._run_elsewhere(func, tensors, args, kwargs)
        refuse_mixed(operator, tensors)
        in_place = self._would_be_in_place(operator.name, args[0] if args else None)
        result = self._call(func, operator, args, kwargs)
        if in_place:
            self.storages.hand_over(args[0], result)
        left: list[Tensor] = []
        if operator.makes_storage or has_rule(operator.name):
            left = self.record(operator, args, kwargs, as_tuple(result))
        elif operator.name == "aten.detach" and self.attribution.accumulates_gradient():
            self._mark_gradient(args[0])
        if operator.is_gemm:
            self._use_workspaces(is_lt=goes_to_lt(operator.name, args, kwargs))
        for tensor in left:
            self.storages.forget(tensor)
        if operator.not_counted:
            self.notes.setdefault(operator.not_counted)
            self.ledger.note_possible(bytes_of([*tensors, *tensors_in(as_tuple(result))]))
        return result

    def _would_be_in_place(self, name: str, first: Any) -> bool:
        if name == "aten.add":
            return would_be_in_place(first, frames_up=3)
        made_by = IN_PLACE_IN_FORMULAS.get(name)
        if made_by is None or not is_called_by_autograd(frames_up=3):
            return False
        block = self.storages.block_of(first)
        return block is not None and block.operator in made_by

    def _run_elsewhere(
        self, func: OpOverload, tensors: list[Tensor], args: Any, kwargs: Any
    ) -> Any:
        result = func(*args, **kwargs)
        if any(map(is_meta, tensors)):
            for tensor in tensors_in(as_tuple(result)):
                if is_meta(tensor) and not self.storages.is_known(tensor):
                    self.storages.add_foreign(tensor)
        return result

    def _call(self, func: OpOverload, operator: Operator, args: Any, kwargs: Any) -> Any:
        try:
            return self._shapes.call(func, operator, args, kwargs)
        except NotImplementedError as error:
            if operator.only_writes:
                return args[0] if func._schema.returns else None
            if operator.name in SHAPES:
                return SHAPES[operator.name](*args, **kwargs)
            source = self.attribution.place().source or "an unknown line"
            raise SimulationError(
                f"{operator.name} at {source} cannot be simulated: torch {torch.__version__} has "
                "no shape rule (meta kernel) for it; measure this test on a device "
                "(--memreq measure)"
            ) from error

    def record(
        self, operator: Operator, args: Any, kwargs: Any, results: Any, *, is_input: bool = False
    ) -> list[Tensor]:
        """Allocate the results, and what the kernel takes; what it has not freed is returned."""
        tensors = list(tensors_in(results_on_device(operator.name, args, results)))
        scratch = scratch_of(operator.name, Call(args, kwargs, tensors, self.card)) or NO_SCRATCH
        waiting = iter(tensors)
        taken: dict[int, Tensor] = {}
        requests = count()
        for event in (*scratch.events, *[RESULT] * len(tensors)):
            if event is RESULT:
                tensor = next(waiting, None)
                if tensor is not None:
                    self.allocate(
                        tensor, operator.name, is_input=is_input, size_bytes=scratch.result_bytes
                    )
            elif event >= 0:
                taken[next(requests)] = self._take(event)
            else:
                self.storages.forget(taken.pop(~event))
        return list(taken.values())

    def _use_workspaces(self, *, is_lt: bool) -> None:
        stream = self.streams.current
        for library, size_bytes in self.workspaces.missing(stream, is_lt=is_lt):
            workspace = self._take(size_bytes, f"{library} workspace", "workspaces")
            self.workspaces.hold(library, workspace, stream)

    def _take(
        self, size_bytes: int, operator: str = "kernel scratch", category: str | None = None
    ) -> Tensor:
        taken = torch.empty(size_bytes, dtype=torch.uint8, device=_META)
        self.allocate(taken, operator, category=category)
        return taken

    def _mark_gradient(self, tensor: Tensor) -> None:
        block = self.storages.block_of(tensor)
        if block is not None and block.category is None:
            block.category = "gradients"

    def is_foreign(self, tensor: Tensor) -> bool:
        """True for a tensor that user code itself wants on meta."""
        return is_meta(tensor) and not self.storages.is_pretended(tensor)
