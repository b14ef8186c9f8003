"""Kernels that sort: sort, topk, embeddings in backward, prefix sums."""

from __future__ import annotations

from torch import Tensor

from pytest_memreq.simulate.kernels import cub
from pytest_memreq.simulate.kernels.call import (
    RESULT,
    Call,
    Scratch,
    after_results,
    copies,
    joined,
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
    if length <= SMALL_SORT:
        return after_results(call, *nested(length * INDEX_BYTES))
    return after_results(call, *_large_sort(tensor, length))


def _large_sort(tensor: Tensor, length: int) -> tuple[int, ...]:
    items, key_bytes = tensor.numel(), tensor.element_size()
    segments = items // length
    indices = items * INDEX_BYTES
    if segments == 1 or length >= LARGE_SEGMENT:
        one = cub.radix_sort(length, key_bytes, INDEX_BYTES, 8 * key_bytes)
        each = joined(*[(one, ~0)] * segments)
        return joined((length * INDEX_BYTES,), each)
    if segments >= FEW_SEGMENTS:
        return nested(indices, cub.segmented_sort(items, key_bytes, INDEX_BYTES))
    by_value = cub.radix_sort(items, key_bytes, INDEX_BYTES, 8 * key_bytes)
    by_segment = cub.radix_sort(items, INDEX_BYTES, 0, cub.bits_of(segments))
    pairs = (indices, indices, items * key_bytes, by_value, ~3, ~2)
    return (*pairs, by_segment, ~4, ~1, ~0)


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
    kept = (
        slices * tensor.element_size(),
        *[slices * 8] * 2,
        blocks * DIGITS * 2,
        slices * DIGITS * 4,
        *[blocks * 4] * 2,
    )
    scans = joined(*[(cub.scan(1, 16), ~0)] * 2)
    held = len(kept)
    in_order = joined(kept, scans)
    return after_results(call, *in_order, *(~at for at in reversed(range(held))))


FEW_INDICES = 3072
BAG_MAX = 2
ROWS_PER_THREAD = 10
ACCUMULATOR_BYTES = 4


def embedding_backward(call: Call) -> Scratch | None:
    """embedding_dense_backward_cuda of aten/src/ATen/native/cuda/Embedding.cu.

    Few indices are added up as they are; more are sorted, and parts of each word's rows summed:
    EmbeddingBackwardKernel.cu.
    """
    grad, indices, words = call.args[:3]
    copied = copies(grad.reshape(-1, grad.shape[-1]) if grad.is_contiguous() else grad)
    if indices.numel() <= FEW_INDICES:
        return Scratch((*copied, RESULT)) if copied else None
    return _rows_summed(copied, indices, words, grad.shape[-1])


def bag_backward(call: Call) -> Scratch | None:
    """_embedding_bag_dense_backward_cuda of aten/src/ATen/native/cuda/EmbeddingBag.cu.

    The largest of a bag is known; what sums or means it is sorted like many indices.
    """
    grad, indices, words, mode = (call.args[at] for at in (0, 1, 6, 8))
    copied = copies(grad)
    if mode == BAG_MAX:
        return Scratch((*copied, RESULT)) if copied else None
    return _rows_summed(copied, indices, words, grad.shape[-1])


def _rows_summed(copied: tuple[int, ...], indices: Tensor, words: int, width: int) -> Scratch:
    """Indices sorted, and parts of each word's rows summed (EmbeddingBackwardKernel.cu)."""
    number = indices.numel()
    listed = number * INDEX_BYTES
    sorted_bytes = cub.radix_sort(number, INDEX_BYTES, INDEX_BYTES, cub.bits_of(words))
    segments = min(number, words)
    parts = number // ROWS_PER_THREAD + segments
    first = len(copied)
    before = (*copied, listed, listed, listed, sorted_bytes, ~(first + 3), ~(first + 2))
    after = (
        *(listed, INDEX_BYTES, listed, cub.select(number), ~3, ~2),
        *(
            segments * INDEX_BYTES,
            segments * INDEX_BYTES,
            cub.long_scan(segments),
            ~6,
        ),
        *(INDEX_BYTES, parts * INDEX_BYTES, parts * width * ACCUMULATOR_BYTES, ~9, ~8, ~7),
        *(~5, ~4, ~1, ~0),
    )
    shifted = joined(before, after)
    return Scratch((*shifted[: len(before)], RESULT, *shifted[len(before) :]))


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
    "aten.embedding_dense_backward": embedding_backward,
    "aten._embedding_bag_backward": bag_backward,
    "aten.cumsum": cumulative,
    "aten.cumprod": cumulative,
}
