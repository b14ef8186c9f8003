"""Kernels that add up the gradients of embeddings."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pytest_memreq.simulate.cards import Card
from pytest_memreq.simulate.kernels import cub
from pytest_memreq.simulate.kernels.call import RESULT, Call, Events, Scratch, copies

INDEX_BYTES = 8
FEW_INDICES = 3072
BAG_MAX = 2
ROWS_PER_THREAD = 10
WARP = 32
MOST_THREADS = 1024
FUSED_BLOCKS = 4  # fewer for every multiprocessor leave room
FUSED_PARTS = 4  # more for every block are worth it
FLOAT_BYTES = 4


def embedding_backward(call: Call) -> Scratch | None:
    """embedding_dense_backward_cuda of aten/src/ATen/native/cuda/Embedding.cu.

    Few indices are added up as they are; more are sorted, and parts of each word's rows summed:
    EmbeddingBackwardKernel.cu.
    """
    grad, indices, words = call.args[:3]
    copied = copies(grad.reshape(-1, grad.shape[-1]) if grad.is_contiguous() else grad)
    is_scaled = call.argument(4, "scale_grad_by_freq", False)
    if indices.numel() <= FEW_INDICES and not is_scaled:
        return Scratch((*copied, RESULT)) if copied else None
    return _rows_summed(call, copied, indices, words, can_fuse=True, is_scaled=is_scaled)


def bag_backward(call: Call) -> Scratch | None:
    """_embedding_bag_dense_backward_cuda of aten/src/ATen/native/cuda/EmbeddingBag.cu.

    The largest of a bag is known; what sums or means it is sorted like many indices.
    """
    grad, indices, words, mode = (call.args[at] for at in (0, 1, 6, 8))
    copied = copies(grad)
    if mode == BAG_MAX:
        return Scratch((*copied, RESULT)) if copied else None
    return _rows_summed(call, copied, indices, words, can_fuse=False)


def _rows_summed(
    call: Call,
    copied: tuple[int, ...],
    indices: Tensor,
    words: int,
    *,
    can_fuse: bool,
    is_scaled: bool = False,
) -> Scratch | None:
    """Indices sorted, and parts of each word's rows summed (EmbeddingBackwardKernel.cu)."""
    number = indices.numel()
    listed = number * INDEX_BYTES
    segments = min(number, words)
    events = Events()
    held = events.take(*copied, listed, listed)
    original = events.take(listed)
    events.run(cub.radix_sort(number, INDEX_BYTES, INDEX_BYTES, cub.bits_of(words)))
    events.free(original)
    if is_scaled:  # by how often each word is there
        held += events.take(listed)
        events.run(cub.scan_by_key(number))
        events.run(cub.scan_by_key(number))
    events.results()
    offsets = events.take(listed, INDEX_BYTES)
    events.run(listed, cub.select(number))
    offsets += events.take(*[segments * INDEX_BYTES] * 2)
    events.run(cub.cumulative(segments, INDEX_BYTES))
    offsets += events.take(INDEX_BYTES)
    _sum_parts(events, call, number // ROWS_PER_THREAD + segments, segments, can_fuse=can_fuse)
    events.free((*offsets[::-1], *held[::-1]))
    return events.scratch()


def _sum_parts(events: Events, call: Call, parts: int, segments: int, *, can_fuse: bool) -> None:
    (result,) = call.results
    width = result.shape[-1]
    places = parts * INDEX_BYTES
    sum_bytes = max(result.element_size(), FLOAT_BYTES)
    if not (can_fuse and _is_fused(parts, segments, width, call.card)):
        events.run(places, parts * width * sum_bytes)
    elif sum_bytes == result.element_size():
        events.run(places, places)
    else:
        events.run(places, places, result.numel() * sum_bytes)


def _is_fused(parts: int, segments: int, width: int, card: Card) -> bool:
    """True where few words have many rows each (use_fused_kernel)."""
    threads = math.ceil(width / WARP) * WARP
    blocks = math.ceil(segments * threads / min(threads, MOST_THREADS))
    has_room = blocks < card.multiprocessors * FUSED_BLOCKS and parts > blocks * FUSED_PARTS
    return has_room and not torch.are_deterministic_algorithms_enabled()


RULES = {
    "aten.embedding_dense_backward": embedding_backward,
    "aten._embedding_bag_backward": bag_backward,
}
