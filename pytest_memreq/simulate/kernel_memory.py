"""Memory that CUDA's kernels take and give back within one operator.

A dispatch mode sees an operator's arguments and results, not what its kernel allocates in between.
Each rule says so for one operator, from PyTorch's source.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_memreq.simulate.cards import Card

_FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Scratch:
    """Blocks that are allocated once `after` of the operator's results are, in this order."""

    block_bytes: tuple[int, ...]
    after: int
    last_freed_first: bool = False


def scratch_of(operator: str, args: Sequence[Any], card: Card) -> Scratch | None:
    """What the kernel of an operator takes for itself, None where no rule knows of any."""
    rule = RULES.get(operator)
    return None if rule is None else rule(args, card)


def _flash_forward(args: Sequence[Any], card: Card) -> Scratch | None:
    """Partial results of a forward pass that is split along the keys, to fill the card.

    set_params_splitkv in aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp.
    """
    batch, heads, queries, size = args[0].shape
    keys = args[1].shape[2]
    dropout = args[3] if len(args) > 3 else 0.0
    splits = 1 if dropout else flash_splits(batch * heads, queries, keys, size, card)
    if splits == 1:
        return None
    rows = splits * batch * heads * queries * _FLOAT_BYTES
    return Scratch(block_bytes=(rows, rows * _round_up(size, _head_step(size))), after=2)


def _flash_backward(args: Sequence[Any], _card: Card) -> Scratch:
    """Row sums of the gradient, and the gradient of the queries in single precision.

    mha_bwd in aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp.
    """
    batch, heads, queries, size = args[1].shape
    rows = batch * heads * _round_up(queries, 128) * _FLOAT_BYTES
    accumulated = rows * _round_up(size, _head_step(size))
    return Scratch(block_bytes=(rows, accumulated), after=3, last_freed_first=True)


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


RULES: dict[str, Callable[[Sequence[Any], Card], Scratch | None]] = {
    "aten._scaled_dot_product_flash_attention": _flash_forward,
    "aten._scaled_dot_product_flash_attention_backward": _flash_backward,
}
