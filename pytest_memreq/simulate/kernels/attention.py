"""Kernels of attention: partial results, row sums, and gradients in single precision."""

from __future__ import annotations

import math

from torch import Tensor

from pytest_memreq.simulate.cards import Card
from pytest_memreq.simulate.kernels.call import RESULT, Call, Scratch

_FLOAT_BYTES = 4


def flash_forward(call: Call) -> Scratch | None:
    """Partial results of a forward pass that is split along the keys, to fill the card.

    set_params_splitkv in aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp.
    """
    batch, heads, queries, size = call.args[0].shape
    keys = call.args[1].shape[2]
    dropout = call.argument(3, "dropout_p", 0.0)
    splits = 1 if dropout else flash_splits(batch * heads, queries, keys, size, call.card)
    if splits == 1:
        return None
    rows = splits * batch * heads * queries * _FLOAT_BYTES
    return Scratch((RESULT, RESULT, rows, rows * _round_up(size, _head_step(size))))


def flash_backward(call: Call) -> Scratch:
    """Row sums of the gradient, and the gradient of the queries in single precision.

    mha_bwd in aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp.
    """
    grad = call.args[0]
    batch, heads, queries, size = call.args[1].shape
    rows = batch * heads * _round_up(queries, 128) * _FLOAT_BYTES
    accumulated = rows * _round_up(size, _head_step(size))
    copied = _as_heads_last(grad)
    kept = len(copied)
    results = [RESULT] * 3
    return Scratch((*copied, *results, rows, accumulated, ~(kept + 1), ~kept))


def _as_heads_last(grad: Tensor) -> tuple[int, ...]:
    """Copies of a gradient that is not laid out as the kernel reads it, one sequence a row.

    One that is expanded is made contiguous first, and then once more the other way round.
    """
    if grad.transpose(1, 2).is_contiguous():
        return ()
    size_bytes = grad.numel() * grad.element_size()
    return (size_bytes,) if grad.is_contiguous() else (size_bytes, size_bytes)


EFFICIENT_BLOCK = 64
LOCK_WORDS = 4  # of a block of gradients: lock, counter, alignment


def efficient_backward(call: Call) -> Scratch:
    """Row sums, unless the kernel makes them itself, and gradients of queries in single precision.

    _efficient_attention_backward of aten/src/ATen/native/transformers/cuda/attention_backward.cu;
    GradQTempStorage of its kernel_backward.h, for heads of up to 64.
    """
    grad, query = call.args[:2]
    batch, heads, queries, size = query.shape
    rows = batch * heads * queries * _FLOAT_BYTES
    grad_bytes = grad.numel() * grad.element_size()
    copied = () if grad.transpose(1, 2).is_contiguous() else (grad_bytes,)
    blocks = -(-queries // EFFICIENT_BLOCK) * -(-size // EFFICIENT_BLOCK)
    words = blocks * (EFFICIENT_BLOCK**2 + LOCK_WORDS)
    workspace = batch * heads * words * _FLOAT_BYTES
    first = len(copied)
    sums: tuple[int, ...]
    if query.element_size() == _FLOAT_BYTES:
        sums = (grad_bytes, rows, rows, ~(first + 1), ~first)
        work = (workspace, ~(first + 2), ~(first + 3))
    else:
        sums = (rows,)
        work = (workspace, ~first, ~(first + 1))
    return Scratch((*copied, *[RESULT] * 3, *sums, *work))


def flash_splits(rows: int, queries: int, keys: int, head_size: int, card: Card) -> int:
    """In how many parts flash attention splits the keys.

    num_splits_heuristic of flash_api.cpp: the fewest with at least 85 % of the best possible use
    of twice the card's multiprocessors.
    """
    slots = card.multiprocessors * 2
    block = 256 if head_size <= 64 else 128 if head_size <= 128 else 64
    row_blocks = rows * math.ceil(queries / 64)
    key_blocks = math.ceil(keys / block)
    if row_blocks >= 0.8 * slots:
        return 1
    efficiency = {
        splits: _use_of(row_blocks * splits / slots)
        for splits in range(1, min(128, slots, key_blocks) + 1)
        if splits == 1 or math.ceil(key_blocks / splits) != math.ceil(key_blocks / (splits - 1))
    }
    best = max(efficiency.values())
    return next(splits for splits, use in efficiency.items() if use >= 0.85 * best)


def _use_of(waves: float) -> float:
    return waves / math.ceil(waves)


def _head_step(head_size: int) -> int:
    return 32 if head_size <= 128 else 64


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step


RULES = {
    "aten._scaled_dot_product_flash_attention": flash_forward,
    "aten._scaled_dot_product_flash_attention_backward": flash_backward,
    "aten._scaled_dot_product_efficient_attention_backward": efficient_backward,
}
