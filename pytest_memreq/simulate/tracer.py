"""The dispatch mode that takes `cuda` for meta and records every storage.

Below autograd and autocast every operator passes here. Work for the pretended card runs on its
meta kernel, which yields shapes and no values; work on CPU tensors really runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.nn import Buffer, Parameter
from torch.utils._python_dispatch import TorchDispatchMode

from pytest_memreq.errors import SimulationError
from pytest_memreq.simulate.accumulation import would_be_in_place
from pytest_memreq.simulate.allocator import OutOfDeviceMemory
from pytest_memreq.simulate.attribution import Attribution
from pytest_memreq.simulate.cards import Card
from pytest_memreq.simulate.composites import Kernel
from pytest_memreq.simulate.kernel_memory import scratch_of
from pytest_memreq.simulate.ledger import Block, Ledger
from pytest_memreq.simulate.operators import Operator, describe, refuse_mixed, results_on_device
from pytest_memreq.simulate.storages import Storages, is_meta, storage_of, tensors_in
from pytest_memreq.simulate.streams import Streams
from pytest_memreq.simulate.summary import describe_failure
from pytest_memreq.simulate.workspaces import Workspaces

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
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.ledger = ledger
        self.storages = storages
        self.attribution = attribution
        self.workspaces = workspaces
        self.composites = composites
        self.handlers = handlers
        self.card = card
        self.streams = streams
        self.pretended: list[str] = []
        self.notes: dict[str, None] = {}
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
        if operator.is_composite:
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
        self, tensor: Tensor, operator: str, *, is_input: bool = False, category: str | None = None
    ) -> None:
        """The tensor's storage is new on the card, unless it is known or empty."""
        if not is_meta(tensor) or self.storages.is_known(tensor):
            return
        place = self.attribution.place()
        if self.attribution.accumulates_gradient():
            category = "gradients"
        block = Block(
            number=self.ledger.next_number(),
            requested_bytes=storage_of(tensor).nbytes(),
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
        name = func.name().removeprefix("aten::")
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
            return self._create(func, operator, args, kwargs)
        tensors = [*tensors_in(args), *tensors_in(kwargs.values())]
        pretended = [tensor for tensor in tensors if self.storages.is_pretended(tensor)]
        if not pretended:
            return self._run_elsewhere(func, tensors, args, kwargs)
        refuse_mixed(operator, tensors)
        in_place = operator.name == "aten.add" and would_be_in_place(args[0], frames_up=2)
        result = self._call(func, operator, args, kwargs)
        if in_place:
            self.storages.hand_over(args[0], result)
        if operator.makes_storage:
            self._record(operator, args, _as_tuple(result))
        elif operator.name == "aten.detach" and self.attribution.accumulates_gradient():
            self._mark_gradient(args[0])
        if operator.is_gemm:
            self._use_workspace()
        if operator.not_counted:
            self.notes.setdefault(operator.not_counted)
        return result

    def _run_elsewhere(
        self, func: OpOverload, tensors: list[Tensor], args: Any, kwargs: Any
    ) -> Any:
        result = func(*args, **kwargs)
        if any(map(is_meta, tensors)):
            for tensor in tensors_in(_as_tuple(result)):
                if is_meta(tensor) and not self.storages.is_known(tensor):
                    self.storages.add_foreign(tensor)
        return result

    def _call(self, func: OpOverload, operator: Operator, args: Any, kwargs: Any) -> Any:
        try:
            return func(*args, **kwargs)
        except NotImplementedError as error:
            source = self.attribution.place().source or "an unknown line"
            raise SimulationError(
                f"{operator.name} at {source} cannot be simulated: torch {torch.__version__} has "
                "no shape rule (meta kernel) for it; measure this test on a device "
                "(--memreq measure)"
            ) from error

    def _record(self, operator: Operator, args: Any, results: Any) -> None:
        tensors = list(tensors_in(results_on_device(operator.name, results)))
        scratch = scratch_of(operator.name, args, self.card)
        before = len(tensors) if scratch is None else scratch.after
        for tensor in tensors[:before]:
            self.allocate(tensor, operator.name)
        taken = [] if scratch is None else [self._take(size) for size in scratch.block_bytes]
        for tensor in tensors[before:]:
            self.allocate(tensor, operator.name)
        for tensor in reversed(taken) if scratch and scratch.last_freed_first else taken:
            self.storages.forget(tensor)

    def _use_workspace(self) -> None:
        size_bytes = self.workspaces.missing_bytes(self.streams.current)
        if size_bytes is None:
            return
        workspace = self._take(size_bytes, "cublas workspace", "workspaces")
        self.workspaces.hold(workspace, self.streams.current)

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

    def _create(self, func: OpOverload, operator: Operator, args: Any, kwargs: Any) -> Any:
        """Factories and copies: the device comes as an argument, or from the first tensor."""
        like = next(tensors_in(args), None)
        device = _requested_device(kwargs.get("device"), like)
        if device.type not in ("cuda", "meta"):
            return self._create_elsewhere(func, operator, like, args, kwargs)
        kwargs = {name: value for name, value in kwargs.items() if name != "pin_memory"}
        if like is not None and not is_meta(like):
            args = (_shape_of(like), *args[1:])
        result = func(*args, **{**kwargs, "device": _META})
        # C++ asks for meta where CUDA's would ask for the card, by the options of a tensor at hand.
        # What user code itself wants on meta does not come here: see `make_genuine`.
        if like is not None and self._is_foreign(like):
            self.storages.add_foreign(result)
        else:
            fresh = like is None or not is_meta(like)
            self.allocate(result, operator.name, is_input=fresh)
        return result

    def _create_elsewhere(
        self, func: OpOverload, operator: Operator, like: Tensor | None, args: Any, kwargs: Any
    ) -> Any:
        kwargs = {name: value for name, value in kwargs.items() if name != "pin_memory"}
        if like is None or not is_meta(like) or self._is_foreign(like):
            return func(*args, **kwargs)
        if operator.name == "aten._to_copy":
            self.pretend("values copied to the CPU")
        shape = func(*args, **{**kwargs, "device": _META})
        return torch.zeros_like(shape, device=_CPU)

    def _is_foreign(self, tensor: Tensor) -> bool:
        return is_meta(tensor) and not self.storages.is_pretended(tensor)


def _requested_device(given: Any, like: Tensor | None) -> torch.device:
    if given is not None:
        return torch.device(given)
    return _META if like is not None and is_meta(like) else _CPU


def _shape_of(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=_META)


def _as_tuple(result: Any) -> Any:
    return result if isinstance(result, (tuple, list)) else (result,)
