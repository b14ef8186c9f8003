"""Kernels on lists of tensors, as optimizers and clipping use them."""

from __future__ import annotations

import math

from torch import Tensor

from pytest_memreq.simulate.kernels.call import RESULT, Call, Rule, Scratch, after_results, nested
from pytest_memreq.simulate.versions import torch_version

FLOAT_BYTES = 4
CHUNK_ELEMENTS = 65536  # of a tensor, for one block of threads


def list_norms(call: Call) -> Scratch | None:
    """Partial norms of chunks (foreach_tensor_norm_cuda of native/cuda/ForeachReduceOp.cu)."""
    if call.argument(1, "ord", 2) not in (1, 2, math.inf) or not _is_taken_together(call):
        return None
    chunks = _chunks(call)
    partials = _partials(chunks, FLOAT_BYTES)
    if torch_version() >= (2, 15):  # as many as there are chunks, and where each tensor's begin
        partials = (8 * (len(chunks) + 1), FLOAT_BYTES * sum(chunks))
    frees = (~at for at in reversed(range(len(partials))))
    return Scratch((*partials, *[RESULT] * len(call.results), *frees))


def list_maxima(call: Call) -> Scratch | None:
    """Partial maxima of chunks (the same file)."""
    if not _is_taken_together(call):
        return None
    return after_results(call, *nested(*_partials(_chunks(call), call.args[0][0].element_size())))


def _partials(chunks: list[int], element_bytes: int) -> tuple[int, ...]:
    return (len(chunks) * max(chunks) * element_bytes,)


def _chunks(call: Call) -> list[int]:
    return [-(-tensor.numel() // CHUNK_ELEMENTS) for tensor in call.args[0]]


def _is_taken_together(call: Call) -> bool:
    """False where the tensors are taken one by one (can_use_fast_route of ForeachUtils.h)."""
    tensors = call.args[0]
    dtypes = {tensor.dtype for tensor in tensors}
    return len(dtypes) == 1 and dtypes.pop().is_floating_point and all(map(_is_dense, tensors))


def _is_dense(tensor: Tensor) -> bool:
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return tensor.numel() == 1 + sum((size - 1) * step for size, step in steps)


RULES: dict[str, Rule] = {"aten._foreach_norm": list_norms, "aten._foreach_max": list_maxima}
