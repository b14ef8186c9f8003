"""Storages of pretended tensors, from birth to death.

A tensor's memory is its storage: views share it, and it goes when its last owner goes, be that a
Python name or a node of the autograd graph. A weak reference to the storage records that moment.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from pytest_memreq.simulate.ledger import Block, Ledger

is_meta = vars(torch._C.TensorBase)["is_meta"].__get__
storage_of = torch._C.TensorBase.untyped_storage


def key_of(tensor: Tensor) -> int | None:
    """What tells the tensor's storage from others.

    None for a tensor that has none: a sparse one, whose parts are tensors, or functorch's wrapper.
    """
    try:
        key: int = storage_of(tensor)._cdata
    except NotImplementedError:
        return None
    return key


class Storages:
    """Which block a storage is, and which meta storages the user asked for as such."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._blocks: dict[int, tuple[Block, weakref.ref[Any]]] = {}
        self._foreign: dict[int, weakref.ref[Any]] = {}

    def is_pretended(self, tensor: Tensor) -> bool:
        """True for a tensor that the user sees on the pretended card."""
        if not is_meta(tensor):
            return False
        return not self._foreign or key_of(tensor) not in self._foreign

    def block_of(self, tensor: Tensor) -> Block | None:
        """The block that holds a tensor, None for what is not on the pretended card."""
        if not is_meta(tensor):
            return None
        key = key_of(tensor)
        entry = None if key is None else self._blocks.get(key)
        return None if entry is None else entry[0]

    def block_in(self, storage: torch.UntypedStorage) -> Block | None:
        """The block that a storage is, None for what is not on the pretended card."""
        entry = self._blocks.get(storage._cdata)
        return None if entry is None else entry[0]

    def is_known(self, tensor: Tensor) -> bool:
        """True where there is nothing to follow, or it is followed or genuinely meta already."""
        key = key_of(tensor)
        return key is None or key in self._blocks or key in self._foreign

    def add(self, tensor: Tensor, block: Block) -> None:
        """The storage of `tensor` is `block`, from now until it dies."""
        self._ledger.allocate(block)
        self._follow(storage_of(tensor), block)

    def replace(self, storage: torch.UntypedStorage, block: Block) -> None:
        """The storage is `block` from now on, and gives what it was before back.

        resize_bytes_cuda of aten/src/ATen/native/cuda/Resize.cpp: the new memory comes first.
        """
        before = self._blocks[storage._cdata][0]
        self._ledger.allocate(block)
        self._follow(storage, block)
        self._ledger.free(before)

    def hand_over(self, source: Tensor, target: Tensor) -> None:
        """`target` is what `source` was: its storage takes the block over."""
        entry = self._blocks.pop(storage_of(source)._cdata, None)
        if entry is not None:
            self._follow(storage_of(target), entry[0])

    def _follow(self, storage: torch.UntypedStorage, block: Block) -> None:
        key = storage._cdata

        def gone(reference: weakref.ref[Any]) -> None:
            entry = self._blocks.get(key)
            if entry is not None and entry[1] is reference:
                del self._blocks[key]
                self._ledger.free(block)

        self._blocks[key] = (block, weakref.ref(storage, gone))

    def forget(self, tensor: Tensor) -> None:
        """The storage of `tensor` gave its memory back, though it lives on (it was resized)."""
        entry = self._blocks.pop(storage_of(tensor)._cdata, None)
        if entry is not None:
            self._ledger.free(entry[0])

    def add_foreign(self, tensor: Tensor) -> None:
        """The user asked for a meta tensor: it has no memory on any card."""
        storage = storage_of(tensor)
        key = storage._cdata
        if key not in self._foreign:
            self._foreign[key] = weakref.ref(storage, lambda _: self._foreign.pop(key, None))


def tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors among arguments or results, those in lists and tuples too."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors_in(value)


def as_tuple(result: Any) -> Any:
    """The results of an operator, which gives one or several."""
    return result if isinstance(result, (tuple, list)) else (result,)


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """What contiguous copies of the tensors would take together."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
