"""Kernels that read or write by positions and masks: aten/src/ATen/native/cuda/Indexing.cu."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest

import torch
from torch import Tensor

from pytest_memreq.simulate.kernels import cub
from pytest_memreq.simulate.kernels.call import (
    Call,
    Events,
    Scratch,
    after_results,
    copies,
    nested,
)
from pytest_memreq.simulate.kernels.layers import reduced
from pytest_memreq.simulate.kernels.selecting import INDEX_BYTES, take_positions
from pytest_memreq.simulate.storages import is_meta

MASKS = (torch.bool, torch.uint8)


def as_positions(index: Tensor | None) -> list[Tensor | None]:
    """What an index selects at most: a mask is a list of positions for each of its dimensions."""
    if index is None:
        return [None]
    if index.dtype not in MASKS:
        return [index]
    return [torch.empty(index.numel(), dtype=torch.int64, device="meta")] * index.dim()


def _make_positions(events: Events, call: Call, indices: Sequence[Tensor | None]) -> list[int]:
    """Masks as positions, other integers as 64-bit ones, those of the CPU copied.

    expandTensors and ensure_tensors_on_same_device of TensorAdvancedIndexingUtils.h.
    """
    made = []
    for index in indices:
        if index is None or (index.dtype is torch.int64 and is_meta(index)):
            continue
        is_mask = index.dtype in MASKS
        if is_mask and is_meta(index):
            made += take_positions(events, call, index)
        else:
            made += events.take(index.numel() * INDEX_BYTES * (index.dim() if is_mask else 1))
    return made


def index(call: Call) -> Scratch | None:
    """aten/src/ATen/native/TensorAdvancedIndexing.cpp (make_info): positions, then the result."""
    events = Events()
    made = _make_positions(events, call, call.args[1])
    events.results()
    events.free(made)
    return events.scratch()


def index_put(call: Call) -> Scratch | None:
    """index_put_with_sort_kernel of aten/src/ATen/native/cuda/Indexing.cu, where it accumulates."""
    indices, values = call.args[1:3]
    accumulates = call.argument(3, "accumulate", False)
    if not accumulates and _would_be_filled(indices, values):
        return None
    events = Events()
    # An operator that is not in place copies its first argument before that.
    events.results(len(call.results))
    on_card = [index for index in indices if index is None or is_meta(index)]
    made = _make_positions(events, call, on_card if accumulates else indices)
    if accumulates and any(index is not None for index in indices):
        _accumulate(events, call, made)
    else:
        events.free(made)
    return events.scratch()


def _would_be_filled(indices: Sequence[Tensor | None], values: Tensor) -> bool:
    # canDispatchToMaskedFill: one number of the CPU, and nothing but masks.
    is_number = values.numel() == 1 and not is_meta(values)
    return is_number and all(index is None or index.dtype in MASKS for index in indices)


def _accumulate(events: Events, call: Call, made: list[int]) -> None:
    indices = [part for index in call.args[1] for part in as_positions(index)]
    number = max(index.numel() for index in indices if index is not None)
    listed = number * INDEX_BYTES
    kept = _make_linear_index(events, call, [i for i in indices if i is not None], listed)
    events.free(made)
    kept += events.take(*_values_copied(call.args[2], number))
    pairs = zip_longest(call.args[0].shape, indices[: call.args[0].dim()])
    places = math.prod(size for size, index in pairs if index is not None)
    sorted_bytes = cub.radix_sort(number, INDEX_BYTES, INDEX_BYTES, cub.bits_of(places))
    events.run(listed, listed, listed, sorted_bytes)
    events.free(kept[::-1])


def _make_linear_index(
    events: Events, call: Call, indices: Sequence[Tensor], listed: int
) -> list[int]:
    # index_backward of torch/csrc/autograd/FunctionsManual.cpp passes `unsafe`.
    is_checked = not (call.is_in_backward or call.argument(4, "unsafe", False))
    kept: list[int] = []
    for index in indices:
        is_on_card = is_meta(index)  # else all is done on the CPU, and copied
        if is_on_card and is_checked:
            _check_ends(events, call, index)
        made = events.take(listed)
        if is_on_card:
            events.run(listed)
        if kept:  # added to the first
            events.free(made)
        else:
            kept = made
    return kept


def _check_ends(events: Events, call: Call, index: Tensor) -> None:
    ends = events.take(INDEX_BYTES, INDEX_BYTES)
    events.add(reduced(call, index, (), "pair"))
    for _ in ends:
        events.run(1)
    events.free(ends)


def _values_copied(values: Tensor, number: int) -> tuple[int, ...]:
    is_expanded = values.numel() < number
    return (number * values.element_size(),) if is_expanded else copies(values)


def masked_select(call: Call) -> Scratch | None:
    """masked_select_out_cuda_impl: both expanded, and indexed by the mask (IndexKernel.cpp)."""
    tensor, mask = call.args[:2]
    events = Events()
    expanded = mask.expand(torch.broadcast_shapes(tensor.shape, mask.shape))
    found = take_positions(events, call, expanded)
    events.results()
    events.free(found)
    return events.scratch()


def masked_scatter(call: Call) -> Scratch | None:
    """masked_scatter__cuda: a prefix sum of the mask (IndexKernel.cpp, IndexKernel.cu)."""
    tensor, mask = call.args[:2]
    number = tensor.numel()
    if number == 0:
        return None
    expanded = copies(mask.expand(tensor.shape))
    scanned = cub.cumulative(number, INDEX_BYTES)
    return after_results(call, *nested(number * INDEX_BYTES, *expanded, scanned))


RULES = {
    "aten.index": index,
    "aten.index_put": index_put,
    "aten.index_put_": index_put,
    "aten._index_put_impl_": index_put,
    "aten._unsafe_index_put": index_put,
    "aten.masked_select": masked_select,
    "aten.masked_scatter": masked_scatter,
    "aten.masked_scatter_": masked_scatter,
}
