"""Kernels of attention: partial results, row sums, and gradients in single precision."""

from __future__ import annotations

import math

from torch import Tensor

from pytest_memreq.simulate.cards import Card
from pytest_memreq.simulate.kernels.call import (
    RESULT,
    Call,
    Events,
    Scratch,
    after_results,
    nested,
)

_FLOAT_BYTES = 4
RANDOM_STATE_BYTES = 16  # a seed and an offset, copied for the kernel


def flash_forward(call: Call) -> Scratch | None:
    """Partial results of a forward pass that is split along the keys, to fill the card.

    set_params_splitkv in aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp.
    """
    batch, heads, queries, size = call.args[0].shape
    keys = call.args[1].shape[2]
    if call.argument(3, "dropout_p", 0.0):
        return after_results(call, *nested(RANDOM_STATE_BYTES))
    splits = flash_splits(batch * heads, queries, keys, size, call.card)
    if splits == 1:
        return None
    rows = splits * batch * heads * queries * _FLOAT_BYTES
    return Scratch((RESULT, RESULT, rows, rows * _round_up(size, _head_step(size))))


def flash_backward(call: Call) -> Scratch | None:
    """Row sums of the gradient, and the gradient of the queries in single precision.

    Where queries share keys, also gradients of the keys and values of every head.

    mha_bwd in aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp.
    """
    grad = call.args[0]
    batch, heads, queries, size = call.args[1].shape
    rows = batch * heads * _round_up(queries, 128) * _FLOAT_BYTES
    accumulated = rows * _round_up(size, _head_step(size))
    events = Events()
    copied = events.take(*_as_heads_last(grad))
    events.results(len(call.results))
    events.run(rows, accumulated, *_of_each_head(call.args[2], heads))
    events.free(copied)
    return events.scratch()


def _as_heads_last(grad: Tensor) -> tuple[int, ...]:
    """Copies of a gradient that is not laid out as the kernel reads it, one sequence a row.

    One that is expanded is made contiguous first, and then once more the other way round.
    """
    if grad.transpose(1, 2).is_contiguous():
        return ()
    size_bytes = grad.numel() * grad.element_size()
    return (size_bytes,) if grad.is_contiguous() else (size_bytes, size_bytes)


LOCK_WORDS = 4  # of a block of gradients: lock, counter, alignment


def efficient_forward(call: Call) -> Scratch | None:
    """Results in single precision, where heads are too large for registers.

    kNeedsOutputAccumulatorBuffer of mem_eff_attention/kernel_forward.h.
    """
    query, value = call.args[0], call.args[2]
    if query.element_size() == _FLOAT_BYTES or value.shape[-1] <= 128:
        return None
    rows = query.shape[0] * query.shape[1] * query.shape[2]
    return after_results(call, *nested(rows * value.shape[-1] * _FLOAT_BYTES))


def efficient_backward(call: Call) -> Scratch | None:
    """Row sums, unless the kernel makes them itself, and gradients in single precision.

    Where queries share keys, also gradients of the keys and values of every head.
    _efficient_attention_backward of aten/src/ATen/native/transformers/cuda/attention_backward.cu.
    """
    grad, query, key = call.args[:3]
    batch, heads, queries, _ = query.shape
    rows = batch * heads * queries * _FLOAT_BYTES
    grad_bytes = grad.numel() * grad.element_size()
    workspace = batch * heads * efficient_words(query, key, call.card) * _FLOAT_BYTES
    events = Events()
    copied = events.take(*(() if grad.transpose(1, 2).is_contiguous() else (grad_bytes,)))
    events.results(len(call.results))
    shared = events.take(*_of_each_head(key, heads))
    if query.element_size() == _FLOAT_BYTES:
        products, sums = events.take(grad_bytes), events.take(rows)
        kept = events.take(rows)
        events.free((*sums, *products))
    else:
        kept = events.take(rows)
    events.free((*kept, *events.take(workspace)))
    events.free((*copied, *shared))
    return events.scratch()


def _of_each_head(key: Tensor, heads: int) -> tuple[int, ...]:
    """Requests for gradients of keys and values, one for each head of the queries."""
    if key.shape[1] == heads:
        return ()
    size_bytes = key.numel() // key.shape[1] * heads * key.element_size()
    return (size_bytes, size_bytes)


def efficient_words(query: Tensor, key: Tensor, card: Card) -> int:
    """Words of a head's gradients in single precision: of queries in blocks, each with a lock.

    GradQTempStorage of kernel_backward.h; heads of more than 128 in half precision also have their
    gradients of keys and values there (kNeedsAccumGradK).
    """
    is_half, queries, size = query.element_size() < _FLOAT_BYTES, query.shape[2], query.shape[3]
    high, wide = _efficient_block(is_half, size, card.compute_capability >= (8, 0))
    words = math.ceil(queries / high) * math.ceil(size / wide) * (high * wide + LOCK_WORDS)
    if is_half and size > 128:
        words += 2 * _round_up(key.shape[2], 64) * _round_up(size, 128)
    return words


def _efficient_block(is_half: bool, size: int, is_new: bool) -> tuple[int, int]:
    """Queries and elements of a block, as the kernels for each capability are compiled."""
    if size <= 64 or not (is_half or is_new):
        return 64, 64
    return (128, 128) if is_half and is_new and size <= 128 else (128, 64)


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
    "aten._scaled_dot_product_efficient_attention": efficient_forward,
    "aten._scaled_dot_product_efficient_attention_backward": efficient_backward,
}
