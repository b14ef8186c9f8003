"""Kernels of order statistics and histograms, and of windows in backward."""

from __future__ import annotations

import torch

from pytest_memreq.simulate.kernels.call import (
    Call,
    Events,
    Rule,
    Scratch,
    after_results,
    copies,
    nested,
)
from pytest_memreq.simulate.kernels.layers import reduced
from pytest_memreq.simulate.kernels.sorting import INDEX_BYTES, sort_along


def median(call: Call) -> Scratch | None:
    """Of all: they are sorted (median_impl of aten/src/ATen/native/cuda/Sorting.cpp).

    Along a dimension nothing is taken.
    """
    if len(call.results) > 1:
        return None
    events = Events()
    values = _sort_all(events, call)
    is_nan = events.take(1)
    events.results()
    events.free((*is_nan, *values))
    return events.scratch()


def nanmedian(call: Call) -> Scratch | None:
    """The same, once the numbers among them are counted."""
    if len(call.results) > 1:
        return None
    tensor = call.args[0]
    events = Events()
    values = _sort_all(events, call)
    are_nan = events.take(tensor.numel())
    count = events.take(INDEX_BYTES)
    truth = torch.empty(tensor.numel(), dtype=torch.bool, device="meta")
    events.add(reduced(call, truth, (), "sum"))
    place = events.take(INDEX_BYTES)
    half = events.take(4)
    rest = events.take(INDEX_BYTES)
    events.free((*half, *place, *count, *are_nan))
    events.results()
    events.free((*rest, *values))
    return events.scratch()


def _sort_all(events: Events, call: Call) -> list[int]:
    tensor = call.args[0]
    number = tensor.numel()
    copied = events.take(*copies(tensor))
    values = events.take(number * tensor.element_size())
    places = events.take(number * INDEX_BYTES)
    sort_along(events, torch.empty(number, dtype=tensor.dtype, device="meta"), number)
    events.free((*places, *copied))
    return values


def mode(call: Call) -> Scratch | None:
    """A copy with the dimension last (mode_kernel_impl of cuda/TensorModeKernel.cpp)."""
    tensor = call.args[0]
    if tensor.dim() == 0:
        return None
    moved = tensor.transpose(call.argument(1, "dim", -1), -1)
    return after_results(call, *nested(*copies(moved)))


def histogram(call: Call) -> Scratch | None:
    """Both ends, if they are not given (_histc_cuda_template of cuda/SummaryOps.cu)."""
    tensor = call.args[0]
    if call.argument(2, "min", 0) != call.argument(3, "max", 0):
        return None
    width = tensor.element_size()
    events = Events()
    events.results()
    ends = events.take(width, width)
    events.add(reduced(call, tensor, (), "pair"))
    events.free(ends)
    return events.scratch()


def unfold_backward(call: Call) -> Scratch | None:
    """Places that windows reach, where they overlap (aten/src/ATen/native/UnfoldBackward.h)."""
    grad, _, dim, size, step = call.args[:5]
    if step >= size:
        return None
    reached = (grad.shape[dim] - 1) * step + size
    return after_results(call, *nested(reached * INDEX_BYTES))


RULES: dict[str, Rule] = {
    "aten.median": median,
    "aten.nanmedian": nanmedian,
    "aten.mode": mode,
    "aten.histc": histogram,
    "aten.unfold_backward": unfold_backward,
}
