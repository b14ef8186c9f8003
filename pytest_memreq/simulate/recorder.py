"""What operators ask of the card's memory, written into the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import Tensor

from pytest_memreq.simulate.allocator import OutOfDeviceMemory
from pytest_memreq.simulate.attribution import Attribution
from pytest_memreq.simulate.cards import Card
from pytest_memreq.simulate.kernels import NO_SCRATCH, RESULT, Call, scratch_of
from pytest_memreq.simulate.ledger import Block, Ledger
from pytest_memreq.simulate.operators import Operator, results_on_device
from pytest_memreq.simulate.storages import Storages, is_meta, storage_of, tensors_in
from pytest_memreq.simulate.streams import Streams
from pytest_memreq.simulate.summary import describe_failure
from pytest_memreq.simulate.truth import truth_of
from pytest_memreq.simulate.values import Values
from pytest_memreq.simulate.workspaces import Workspaces

CAST = "aten._to_copy"
TRUTHS = frozenset((torch.bool, torch.int64))  # and how many there are
_META = torch.device("meta")


class Recorder:
    """Allocates what operators make and what their kernels take.

    Raises torch.OutOfMemoryError where the card has no room.
    """

    def __init__(
        self,
        ledger: Ledger,
        storages: Storages,
        attribution: Attribution,
        workspaces: Workspaces,
        card: Card,
        streams: Streams,
    ) -> None:
        self.ledger = ledger
        self.storages = storages
        self.attribution = attribution
        self.workspaces = workspaces
        self.card = card
        self.streams = streams
        self.values = Values(self._truth_in)

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
        if size_bytes is None:
            size_bytes = storage_of(tensor).nbytes()
        if not size_bytes:
            return  # the card is not asked
        if self.attribution.accumulates_gradient():
            category = "gradients"
        block = self._block(
            size_bytes,
            operator,
            shape=tuple(tensor.shape),
            dtype=str(tensor.dtype).removeprefix("torch."),
            is_input=is_input,
            category=category,
        )
        self._placed(block, partial(self.storages.add, tensor))

    def _block(
        self,
        requested_bytes: int,
        operator: str,
        *,
        shape: tuple[int, ...],
        dtype: str,
        is_input: bool = False,
        category: str | None = None,
    ) -> Block:
        place = self.attribution.place()
        return Block(
            number=self.ledger.next_number(),
            requested_bytes=requested_bytes,
            operator=operator,
            module=place.module,
            source=place.source,
            shape=shape,
            dtype=dtype,
            born=self.ledger.phase,
            is_input=is_input and self.ledger.phase.kind == "forward" and not place.module,
            in_module=self.attribution.in_module,
            call=self.attribution.call,
            is_recorded=torch.is_grad_enabled(),
            category=category,
            stream=self.streams.current,
        )

    def _placed(self, block: Block, place: Callable[[Block], None]) -> None:
        try:
            place(block)
        except OutOfDeviceMemory as error:
            raise torch.OutOfMemoryError(describe_failure(block, error, self.card)) from None

    def record_stream(self, tensor: Tensor, stream: Any) -> None:
        """Another stream reads the tensor: its memory is free again only when that is over."""
        block = self.storages.block_of(tensor)
        if block is not None and stream.stream_id != block.stream:
            block.is_read_elsewhere = True

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
                    self._note_truth(tensor, operator.name, args)
            elif event >= 0:
                taken[next(requests)] = self._take(event, f"within {operator.name}")
            else:
                self.storages.forget(taken.pop(~event))
        return list(taken.values())

    def _note_truth(self, tensor: Tensor, name: str, args: Any) -> None:
        if tensor.dtype in TRUTHS or name == CAST:
            block = self.storages.block_of(tensor)
            if block is not None:
                block.truth = truth_of(name, args, self._truth_in, self._number_in)

    def _truth_in(self, tensor: Tensor) -> bool | None:
        known = self.values.number(tensor)
        if known is not None:
            return bool(known)
        block = self.storages.block_of(tensor)
        return None if block is None else block.truth

    def _number_in(self, tensor: Tensor) -> int | float | None:
        known = self.values.number(tensor)
        if known is None and self._truth_in(tensor) is False:
            return 0
        return known

    def use_workspaces(self, *, is_lt: bool) -> None:
        """Allocate what a product's library lacks, and keep it where torch does."""
        stream = self.streams.current
        for library, size_bytes in self.workspaces.missing(stream, is_lt=is_lt):
            workspace = self._take(size_bytes, f"{library} workspace", "workspaces")
            self.workspaces.hold(library, workspace, stream)

    def take_for_now(self, size_bytes: int, operator: str) -> None:
        """Allocate what is given back at once."""
        self.storages.forget(self._take(size_bytes, operator))

    def resize(self, storage: torch.UntypedStorage) -> None:
        """A storage was given another size behind the dispatcher, as FSDP does."""
        before = self.storages.block_in(storage)
        if before is None or before.requested_bytes == storage.nbytes():
            return  # a storage that had nothing from the start comes by operators
        # What has no memory now is what it was once it is as large again.
        is_same = storage.nbytes() in (0, before.resized_from)
        block = self._block(
            storage.nbytes(),
            "UntypedStorage.resize_",
            shape=before.shape if is_same else (storage.nbytes(),),
            dtype=before.dtype if is_same else "uint8",
            category=before.category,
        )
        block.resized_from = before.resized_from or before.requested_bytes
        block.is_gathered = before.is_gathered
        self._placed(block, partial(self.storages.replace, storage))

    def _take(self, size_bytes: int, operator: str, category: str | None = None) -> Tensor:
        taken = torch.empty(size_bytes, dtype=torch.uint8, device=_META)
        self.allocate(taken, operator, category=category)
        return taken

    def note_zeroed(self, tensors: Iterable[Tensor]) -> None:
        """The tensors were set to zero where they are; those that are gradients count."""
        blocks = map(self.storages.block_of, tensors)
        self.ledger.zeroed_bytes += sum(
            block.block_bytes for block in blocks if block and block.category == "gradients"
        )

    def mark_buffers(self, tensors: Iterable[Tensor]) -> None:
        """The tensors are what ranks exchange parameters or gradients through."""
        for block in map(self.storages.block_of, tensors):
            if block is not None and block.category is None:
                block.category, block.is_gathered = "temporaries", True

    def mark_gradient(self, tensor: Tensor) -> None:
        """The tensor is handed over to a leaf as its gradient."""
        block = self.storages.block_of(tensor)
        if block is not None and block.category is None:
            block.category = "gradients"
