"""Kernels that select by value: unique, nonzero and what counts.

How much they select is not known; what they take to find it out is. A storage keeps its size where
a result is cut to what was found (Tensor.resize_).
"""

from __future__ import annotations

import torch
from torch import Tensor

from pytest_memreq.simulate.kernels import cub
from pytest_memreq.simulate.kernels.call import (
    Call,
    Events,
    Scratch,
    copies,
)
from pytest_memreq.simulate.kernels.layers import reduced

INDEX_BYTES = 8
INT_BYTES = 4
CHUNK_ITEMS = 2**30  # of nonzero, where there are more than an int counts
MANY_ITEMS = 2**31 - 1


# Where each operator is asked for the inverse and the counts, by position and name.
UNIQUE_ASKED = ((2, "return_inverse"), (3, "return_counts"))
CONSECUTIVE_ASKED = ((1, "return_inverse"), (2, "return_counts"))


def unique(call: Call) -> Scratch | None:
    """compute_unique and UniqueCub of aten/src/ATen/native/cuda/UniqueCub.cu."""
    tensor, number = call.args[0], call.args[0].numel()
    if number == 0:
        return None
    inverse, counts = (call.argument(at, name, False) for at, name in UNIQUE_ASKED)
    if tensor.dtype is torch.bool:
        return _unique_of_two(call, inverse=inverse)
    events = Events()
    copied = events.take(*copies(tensor))
    key_bytes = tensor.element_size()
    ordered = events.take(number * key_bytes)
    if inverse:
        listed = events.take(number * INDEX_BYTES)
        ordered += events.take(number * INDEX_BYTES)
        events.run(cub.radix_sort(number, key_bytes, INDEX_BYTES, 8 * key_bytes))
        events.free(listed)
        events.results()
        events.run(number * INDEX_BYTES, cub.short_scan(number))
    else:
        is_single = tensor.dtype is torch.float32
        events.run(cub.radix_sort(number, key_bytes, 0, 8 * key_bytes, is_single=is_single))
    _find_runs(events, tensor, counts=counts)
    events.free((*ordered[::-1], *copied))
    return events.scratch()


def unique_consecutive(call: Call) -> Scratch | None:
    """As unique, of what is sorted already."""
    tensor, number = call.args[0], call.args[0].numel()
    if number == 0 or call.argument(3, "dim") is not None:
        return None
    inverse, counts = (call.argument(at, name, False) for at, name in CONSECUTIVE_ASKED)
    events = Events()
    copied = events.take(*copies(tensor))
    if inverse:
        events.results()
        events.run(number * INT_BYTES, cub.short_scan(number))
    _find_runs(events, tensor, counts=counts)
    events.free(copied)
    return events.scratch()


def _find_runs(events: Events, tensor: Tensor, *, counts: bool) -> None:
    number = tensor.numel()
    events.results()
    length = events.take(INDEX_BYTES)
    if counts:
        events.results()
        events.run(cub.run_lengths(number))
    else:
        is_half = tensor.dtype in (torch.float16, torch.bfloat16)
        events.run(cub.selected(number, tensor.element_size(), is_half=is_half))
    events.free(length)


def _unique_of_two(call: Call, *, inverse: bool) -> Scratch | None:
    # Of true and false, by counting the true ones.
    events = Events()
    copied = events.take(*copies(call.args[0]))
    true = events.take(INT_BYTES)
    events.run(_counting_bytes(call, call.args[0].numel()))
    events.results(3 if inverse else 2)
    events.free((*true, *copied))
    return events.scratch()


def nonzero(call: Call) -> Scratch | None:
    """nonzero_cuda_out_impl of aten/src/ATen/native/cuda/Nonzero.cu."""
    events = Events()
    counts = _count_chosen(events, call, call.args[0])
    events.results()
    _choose(events, call.args[0], counts)
    return events.scratch()


def take_positions(events: Events, call: Call, mask: Tensor) -> list[int]:
    """As nonzero within another kernel: positions of all that the mask may choose."""
    counts = _count_chosen(events, call, mask)
    positions = events.take(mask.numel() * INDEX_BYTES * max(mask.dim(), 1))
    _choose(events, mask, counts)
    return positions


def _count_chosen(events: Events, call: Call, tensor: Tensor) -> list[int]:
    # The first half of nonzero: how many there are; what is kept until the end.
    chunks = _chunks(tensor.numel())
    copied = events.take(*copies(tensor))
    counts = events.take(INT_BYTES * len(chunks))
    for items in chunks:
        events.run(_counting_bytes(call, items))
    return counts + copied


def _choose(events: Events, tensor: Tensor, kept: list[int]) -> None:
    # The second half: their positions.
    for items in _chunks(tensor.numel()) if tensor.dim() else ():
        events.run(cub.selected(items, INDEX_BYTES))
    events.free(kept)


def _chunks(number: int) -> list[int]:
    if number < MANY_ITEMS:
        return [number]
    return [min(CHUNK_ITEMS, number - at) for at in range(0, number, CHUNK_ITEMS)]


def _counting_bytes(call: Call, items: int) -> int:
    return cub.total(items, call.card.multiprocessors * call.card.resident_blocks)


def count_nonzero(call: Call) -> Scratch | None:
    """A sum of what differs from 0 (count_nonzero_cuda of TensorAdvancedIndexing.cpp)."""
    tensor = call.args[0]
    dims = call.argument(1, "dim", ())
    unequal = torch.empty(tensor.shape, dtype=torch.bool, device="meta")
    events = Events()
    held = events.take(tensor.numel())
    events.results()
    events.add(reduced(call, unequal, (dims,) if isinstance(dims, int) else dims or (), "sum"))
    events.free(held)
    return events.scratch()


RULES = {
    "aten._unique2": unique,
    "aten.unique_consecutive": unique_consecutive,
    "aten.nonzero": nonzero,
    "aten.count_nonzero": count_nonzero,
}
