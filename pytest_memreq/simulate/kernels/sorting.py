"""Kernels that sort, or sum up to each place."""

from __future__ import annotations

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

INDEX_BYTES = 8
SMALL_SORT = 4096
FEW_SEGMENTS = 128
LARGE_SEGMENT = 1_000_000


def sort(call: Call) -> Scratch | None:
    """aten/src/ATen/native/cuda/Sort.cpp (should_use_small_sort), Sort.cu."""
    tensor = call.args[0]
    is_stable = "stable" in call.kwargs or (len(call.args) > 1 and call.args[1] is None)
    dim = call.argument(2 if is_stable else 1, "dim", -1)
    length = tensor.shape[dim] if tensor.dim() else 1
    if tensor.numel() == 0:
        return None
    events = Events()
    events.results(len(call.results))
    sort_along(events, tensor, length)
    return events.scratch()


def sort_along(events: Events, tensor: Tensor, length: int) -> None:
    """Sort slices of so many, once results are there for values and places."""
    if length <= SMALL_SORT:
        events.run(length * INDEX_BYTES)
    else:
        _sort_many(events, tensor, length)


def _sort_many(events: Events, tensor: Tensor, length: int) -> None:
    items, key_bytes = tensor.numel(), tensor.element_size()
    segments = items // length
    indices = items * INDEX_BYTES
    if segments == 1 or length >= LARGE_SEGMENT:
        listed = events.take(length * INDEX_BYTES)
        for _ in range(segments):
            events.run(cub.radix_sort(length, key_bytes, INDEX_BYTES, 8 * key_bytes))
        events.free(listed)
    elif segments >= FEW_SEGMENTS:
        events.run(indices, cub.segmented_sort(items, key_bytes, INDEX_BYTES))
    else:
        pairs = events.take(indices, indices)
        keys = events.take(items * key_bytes)
        events.run(cub.radix_sort(items, key_bytes, INDEX_BYTES, 8 * key_bytes))
        events.free(keys)
        events.run(cub.radix_sort(items, INDEX_BYTES, 0, cub.bits_of(segments)))
        events.free(pairs[::-1])


# should_use_multiblock of aten/src/ATen/native/cuda/TensorTopK.cu: slices up to so many are
# searched by several blocks each, from so many elements on.
MULTIBLOCK = ((20, 20000), (40, 10000), (80, 8000), (200, 5000), (800, 3000), (4000, 800))
MULTIBLOCK_ELSE = 400
TOPK_THREADS = 256
TOPK_BLOCKS_PER_MULTIPROCESSOR = 65536 // (40 * TOPK_THREADS)  # registers of both
DIGITS = 256


def topk(call: Call) -> Scratch | None:
    """mbtopk::launch of aten/src/ATen/native/cuda/TensorTopK.cu."""
    tensor, _ = call.args[:2]
    length = tensor.shape[call.argument(2, "dim", -1)] if tensor.dim() else 1
    slices = tensor.numel() // max(length, 1)
    least = next((size for most, size in MULTIBLOCK if slices <= most), MULTIBLOCK_ELSE)
    if length < least:
        return None
    at_once = call.card.multiprocessors * TOPK_BLOCKS_PER_MULTIPROCESSOR * TOPK_THREADS
    per_thread = min(max(-(-tensor.numel() // at_once), 4), 64)
    blocks = slices * -(-length // (per_thread * TOPK_THREADS))
    events = Events()
    events.results(len(call.results))
    kept = events.take(
        slices * tensor.element_size(),
        *[slices * 8] * 2,
        blocks * DIGITS * 2,
        slices * DIGITS * 4,
        *[blocks * 4] * 2,
    )
    for _ in range(2):
        events.run(cub.scan(1, 16))
    events.free(kept[::-1])
    return events.scratch()


def cumulative(call: Call) -> Scratch | None:
    """A contiguous input in the type of the result, and one prefix sum if it is over all of it.

    aten/src/ATen/native/ReduceOps.cpp, cuda/ScanUtils.cuh.
    """
    tensor, dim = call.args[0], call.args[1]
    (result,) = call.results
    copied = copies(tensor)
    if result.dtype is not tensor.dtype:
        copied = (result.numel() * result.element_size(),)
    if tensor.dim() == 0 or tensor.shape[dim] != tensor.numel():
        return after_results(call, *nested(*copied))
    scanned = cub.cumulative(tensor.numel(), result.element_size())
    return after_results(call, *nested(*copied, scanned))


RULES = {
    "aten.sort": sort,
    "aten.topk": topk,
    "aten.cumsum": cumulative,
    "aten.cumprod": cumulative,
}
