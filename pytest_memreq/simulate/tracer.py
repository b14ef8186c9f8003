"""The dispatch mode that takes `cuda` for meta and records every storage.

Below autograd and autocast every operator passes here. Work for the pretended card runs on its
meta kernel, which yields shapes and no values; work on CPU tensors really runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from pytest_memreq.simulate.composites import Kernel
from pytest_memreq.simulate.creation import create
from pytest_memreq.simulate.kernels import has_rule
from pytest_memreq.simulate.operators import USUALLY_TRUE, Operator, describe, refuse_mixed
from pytest_memreq.simulate.recorder import Recorder
from pytest_memreq.simulate.shape_rules import SHAPES
from pytest_memreq.simulate.shapes import Shapes
from pytest_memreq.simulate.storages import (
    as_tuple,
    bytes_of,
    is_meta,
    tensors_in,
)
from pytest_memreq.simulate.values import MOST
from pytest_memreq.simulate.workspaces import goes_to_lt

_CPU = torch.device("cpu")
_META = torch.device("meta")
# Torch's fake tensors are meta underneath, and DTensor asks them for shapes: none is the card's.
_FAKE = torch._C._TorchDispatchModeKey.FAKE
_get_mode = torch._C._get_dispatch_mode
ZEROING = ("aten.zero_", "aten._foreach_zero_")
MOST_ASKED = 20_000  # made-up values for one line: a loop that waits for another never ends
TOLD_EVERY = 256  # operators: some hundredths of a second
_PLAIN = (Tensor, Parameter, Buffer)

# (tracer, overload, arguments, keyword arguments) -> result, or NotImplemented for the usual way.
Handler = Callable[["Tracer", OpOverload, Any, Any], Any]

# Takes how many operators there were.
Told = Callable[[int], object]


class Tracer(TorchDispatchMode):
    """Runs operators for the pretended card and writes the ledger.

    `in_kernel` is true while torch's own kernels run: Python meta kernels must see meta tensors as
    such. `is_suspended` is true while another pretended device is active inside this one. `told`
    hears now and then how many operators there were.
    """

    def __init__(
        self,
        recorder: Recorder,
        composites: dict[str, Kernel],
        handlers: dict[str, Handler],
        notes: dict[str, None],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.recorder = recorder
        self.storages = recorder.storages
        self.values = recorder.values
        self.allocate = recorder.allocate
        self.record = recorder.record
        self.record_stream = recorder.record_stream
        self.resize = recorder.resize
        self.composites = composites
        self.handlers = handlers
        self._attribution = recorder.attribution
        self._shapes = Shapes()
        self.pretended: Counter[str] = Counter()
        self.sent: Tensor | None = None  # what went to the card to come back as it was
        self.notes = notes
        self.in_kernel = False
        self.is_suspended = False
        self.told: Told | None = None
        self.operators = 0
        self.works_elsewhere = False

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.is_suspended or _get_mode(_FAKE) is not None:
            with self.suspended():
                return func(*args, **kwargs)
        if any(kind not in _PLAIN for kind in types):
            return NotImplemented  # a subclass unwraps itself first
        self.operators += 1
        if self.told is not None and not self.operators % TOLD_EVERY:
            self.told(self.operators)
        operator = describe(func)
        if operator.is_composite or operator.overload in self.composites:
            return self._decompose(func, args, kwargs)
        before, self.in_kernel = self.in_kernel, True
        try:
            result = self._run(func, operator, args, kwargs)
            self._follow(func, operator, args, kwargs, result)
        finally:
            self.in_kernel = before
        return result

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing here is compiled; the wrapper would cost every operator a call

    def address_of(self, storage: torch.UntypedStorage) -> int:
        """A number that is a storage's own as long as it has memory on the card, else 0."""
        block = self.storages.block_in(storage)
        return storage._cdata if block is not None and block.requested_bytes else 0

    def note_elsewhere(self) -> None:
        """Another thread worked on the card, out of sight."""
        self.works_elsewhere = True

    @property
    def is_backward(self) -> bool:
        """True while autograd runs a node."""
        return self._attribution.is_backward

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Within it all work is as if this mode was not there."""
        before, self.is_suspended = self.is_suspended, True
        try:
            yield
        finally:
            self.is_suspended = before

    def make_genuine(self, make: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """What `make` gives is meta because user code wants it so: it takes no memory."""
        with self.suspended():
            made = make(*args, **{**kwargs, "device": _META})
        self.storages.add_foreign(made)
        return made

    def is_pretended(self, tensor: Tensor) -> bool:
        """True for a tensor that user code sees on the card.

        Torch's kernels see it as meta, and so does code that set this mode aside for its own work.
        """
        is_quiet = self.in_kernel or self.is_suspended
        return not is_quiet and self.storages.is_pretended(tensor) and self._is_on()

    def _is_on(self) -> bool:
        modes = range(torch._C._len_torch_dispatch_stack())
        return any(torch._C._get_dispatch_stack_at(at) is self for at in modes)

    def adopt(self, tensor: Tensor, make_numbers: Callable[[], Tensor] | None = None) -> Tensor:
        """A meta tensor made out of the mode's sight is one of the card's inputs."""
        self.allocate(tensor, "aten._to_copy", is_input=True)
        if make_numbers is not None and tensor.numel() <= MOST.get(tensor.dtype, 0):
            self.values.keep(tensor, make_numbers())
        return tensor

    def pretend(self, what: str) -> None:
        """Note that a made-up value was handed out, and to which line.

        Raises SimulationError where that line has asked too often to be ever content.
        """
        source = self._attribution.place().source
        said = f"{what} at {source}" if source else what
        self.pretended[said] += 1
        if self.pretended[said] > MOST_ASKED:
            raise SimulationError(
                f"{said} was asked for {MOST_ASKED:,} times, and its value is made up: a loop "
                "that waits for another never ends; let it end by a count, or measure this test "
                "on a device (--memreq measure)"
            )

    def made_up(self, tensor: Tensor, what: str) -> Any:
        """The number that an element of a tensor is taken to be, of which nothing is known."""
        self.pretend(what)
        block = self.storages.block_of(tensor)
        if block is not None and block.truth is not None:
            return torch.tensor(block.truth, dtype=tensor.dtype).item()
        if tensor.dtype is torch.bool:
            return block is not None and block.operator in USUALLY_TRUE
        return torch.zeros((), dtype=tensor.dtype).item()

    def _follow(
        self, func: OpOverload, operator: Operator, args: Any, kwargs: Any, result: Any
    ) -> None:
        if not self.values.is_vote(operator, args):
            self.values.follow(func, operator, args, kwargs, result)
        else:
            self.pretend("what ranks agree on")  # each is taken to say what this one says

    def _decompose(self, func: OpOverload, args: Any, kwargs: Any) -> Any:
        name = describe(func).overload
        kernel = self.composites.get(name) if any(map(is_meta, tensors_in(args))) else None
        with self.as_user():
            return (kernel or func.decompose)(*args, **kwargs)

    @contextmanager
    def as_user(self) -> Iterator[None]:
        """Within it work is recorded like that of user code, though an operator is running."""
        before, self.in_kernel = self.in_kernel, False
        try:
            with self:
                yield
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
            return self._run_elsewhere(func, operator, tensors, args, kwargs)
        refuse_mixed(operator, tensors)
        in_place = self._would_be_in_place(operator.name, args[0] if args else None)
        result = self._call(func, operator, args, kwargs)
        if in_place:
            self.storages.hand_over(args[0], result)
        left: list[Tensor] = []
        if operator.makes_storage or has_rule(operator.name):
            left = self.record(operator, args, kwargs, as_tuple(result))
        elif operator.name == "aten.detach" and self._attribution.accumulates_gradient():
            self.recorder.mark_gradient(args[0])
        elif operator.name in ZEROING:
            self.recorder.note_zeroed(tensors)
        if operator.is_gemm:
            self.recorder.use_workspaces(is_lt=goes_to_lt(operator.name, args, kwargs))
        for tensor in left:
            self.storages.forget(tensor)
        if operator.not_counted:
            self.notes.setdefault(operator.not_counted)
            self.recorder.ledger.note_possible(bytes_of([*tensors, *tensors_in(as_tuple(result))]))
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
        self,
        func: OpOverload,
        operator: Operator,
        tensors: list[Tensor],
        args: Any,
        kwargs: Any,
    ) -> Any:
        result = func(*args, **kwargs)
        if operator.makes_storage and any(map(is_meta, tensors)):
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
            why = f"torch {torch.__version__} has no shape rule (meta kernel) for it"
            raise self.refusal(operator, why) from error
        except RuntimeError as error:
            if "meta tensor" not in str(error):
                raise
            why = f"its result's shape depends on values ({error})"
            raise self.refusal(operator, why) from error

    def refusal(self, operator: Operator, why: str) -> SimulationError:
        """The error of an operator that cannot be simulated."""
        source = self._attribution.place().source or "an unknown line"
        return SimulationError(
            f"{operator.name} at {source} cannot be simulated: {why}; measure this test on a "
            "device (--memreq measure)"
        )

    def is_foreign(self, tensor: Tensor) -> bool:
        """True for a tensor that user code itself wants on meta."""
        return is_meta(tensor) and not self.storages.is_pretended(tensor)
