"""Kernels of what ranks exchange: FSDP's copies in and out, functional collectives' inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pytest_memreq.simulate.kernels.call import (
    RESULT,
    Call,
    Rule,
    Scratch,
    after_results,
    copy_bytes,
    nested,
)

# aten/src/ATen/native/cuda/TensorShape.cu
ENTRY_BYTES = 8
BLOCK = 128
TILE_BYTES = 16 * BLOCK


def split_copy(call: Call) -> Scratch | None:
    """split_with_sizes_copy_out_cuda: addresses and sizes of all splits, and of their blocks."""
    out = call.kwargs.get("out")
    if out is None:
        return None
    whole, sizes = call.args[:2]
    dim = call.argument(2, "dim", 0) % whole.dim()
    if not all(_is_dense(t) and t.dtype == whole.dtype for t in (whole, *out)):
        return None
    step = whole.stride(dim) * whole.element_size()
    chunks = math.prod(whole.shape[:dim])
    blocks = _split_blocks([size * step for size in sizes], chunks, _most_blocks(call))
    return after_results(call, *nested(ENTRY_BYTES * (4 * len(sizes) + 1 + blocks)))


def _most_blocks(call: Call) -> int:
    return call.card.multiprocessors * call.card.threads_per_multiprocessor // BLOCK * 2


def _split_blocks(chunk_bytes: Sequence[int], chunks: int, most_blocks: int) -> int:
    """Blocks of the first chunk of each split, a thread being given as much as keeps them few."""
    blocks = sum(-(-size // TILE_BYTES) for size in chunk_bytes)
    factor = -(-blocks * chunks // most_blocks)
    per_block = min(math.ceil(math.sqrt(factor)), chunks)
    each = -(-factor // max(1, per_block))
    return sum(-(-size // (TILE_BYTES * max(1, each))) for size in chunk_bytes)


def chunk_cat(call: Call) -> Scratch | None:
    """get_chunk_cat_metadata of the same file: the same of all tensors, padded to whole chunks."""
    tensors, dim, chunks = call.args[:3]
    out = call.argument(3, "out")
    target = tensors[0].dtype if out is None else out.dtype
    kinds = (tensors[0].dtype, target)
    is_taken = kinds[0] == kinds[1] or kinds == (torch.bfloat16, torch.float32)
    if not is_taken or not all(map(_is_dense, tensors)):
        return None
    blocks = sum(-(-_chunk_bytes(t, dim, chunks, target) // TILE_BYTES) for t in tensors)
    size_bytes = ENTRY_BYTES * (6 * len(tensors) + 2 + blocks)
    return Scratch(nested(size_bytes))


def _chunk_bytes(tensor: Tensor, dim: int, chunks: int, dtype: torch.dtype) -> int:
    rows = -(-tensor.shape[dim] // chunks)
    return rows * math.prod(tensor.shape[dim + 1 :]) * dtype.itemsize


def _is_dense(tensor: Tensor) -> bool:
    # is_non_overlapping_and_dense: in some order of its dimensions it is contiguous.
    order = sorted(range(tensor.dim()), key=tensor.stride, reverse=True)
    return tensor.permute(order).is_contiguous()


def contiguous_input(call: Call) -> Scratch | None:
    """torch/csrc/distributed/c10d/Functional.cpp: a contiguous copy while it is sent."""
    size_bytes = copy_bytes(call.args[0])
    return None if size_bytes is None else Scratch((size_bytes, RESULT, ~0))


RULES: dict[str, Rule] = {
    "fsdp.split_with_sizes_copy": split_copy,
    "fsdp.chunk_cat": chunk_cat,
    "aten.split_with_sizes_copy": split_copy,
    "aten._chunk_cat": chunk_cat,
    **dict.fromkeys(
        (
            "_c10d_functional.all_gather_into_tensor",
            "_c10d_functional.reduce_scatter_tensor",
            "_c10d_functional.all_to_all_single",
        ),
        contiguous_input,
    ),
}
