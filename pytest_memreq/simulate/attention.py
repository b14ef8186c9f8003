"""Which kernel `scaled_dot_product_attention` would run on the card, and the route to it.

The choice follows aten/src/ATen/native/transformers/cuda/sdp_utils.cpp (`select_sdp_backend`), the
routes aten/src/ATen/native/transformers/attention.cpp. On meta tensors torch itself would always
take the math kernel, which holds the whole matrix of scores.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from pytest_memreq.simulate.cards import Card

aten = torch.ops.aten
Kernel = Literal["cudnn", "flash", "efficient", "math"]
HALF = (torch.float16, torch.bfloat16)
EFFICIENT_ALIGNMENT = 16


def choose_kernel(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, card: Card
) -> Kernel:
    """The first kernel in the card's order of preference that admits these tensors."""
    if query.dim() != 4:
        return "math"
    admits = {
        "cudnn": _admits_cudnn(query, value, card),
        "flash": _admits_flash(query, value, mask, card),
        "efficient": _admits_efficient(query, key, mask, card),
        "math": True,
    }
    order: tuple[Kernel, ...] = ("flash", "efficient", "math")
    if _prefers_cudnn(card):
        order = ("cudnn", *order)
    return next(kernel for kernel in order if admits[kernel])


def attend(
    card: Card,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float,
    is_causal: bool,
    scale: float | None,
    enable_gqa: bool,
) -> Tensor:
    """`scaled_dot_product_attention` by the kernel that the card would choose."""
    kernel = choose_kernel(query, key, value, mask, card)
    if kernel == "math":
        result: Tensor = aten._scaled_dot_product_attention_math(
            query, key, value, mask, dropout, is_causal, None, scale=scale, enable_gqa=enable_gqa
        )[0]
        return result
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    if kernel == "flash":
        return _flash(query, key, value, dropout, is_causal, scale)
    bias = _as_bias(mask, query, key)
    needs_grad = torch.is_grad_enabled() and any(t.requires_grad for t in (query, key, value))
    arguments = (query, key, value, bias, needs_grad, dropout, is_causal)
    fused = {
        "cudnn": aten._scaled_dot_product_cudnn_attention,
        "efficient": aten._scaled_dot_product_efficient_attention,
    }
    out: Tensor = fused[kernel](*arguments, scale=scale)[0]
    return out


def _prefers_cudnn(card: Card) -> bool:
    # check_prefer_cudnn_attention: compute capability 9.0 and 10.0 with cuDNN above 9.15, which
    # the wheels have from torch 2.13 on (2.13.0 requires cuDNN 9.20).
    new = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 13)
    return new and card.compute_capability in ((9, 0), (10, 0))


def _admits_cudnn(query: Tensor, value: Tensor, card: Card) -> bool:
    sizes = (query.shape[-1], value.shape[-1])
    return (
        torch._C._get_cudnn_sdp_enabled()
        and torch.backends.cudnn.enabled
        and query.dtype in HALF
        and card.compute_capability >= (8, 0)
        and all(size <= 128 and size % 8 == 0 for size in sizes)
    )


def _admits_flash(query: Tensor, value: Tensor, mask: Tensor | None, card: Card) -> bool:
    return (
        torch._C._get_flash_sdp_enabled()
        and query.dtype in HALF
        and mask is None
        and query.shape[-1] == value.shape[-1] <= 256
        and card.compute_capability >= (8, 0)
    )


def _admits_efficient(query: Tensor, key: Tensor, mask: Tensor | None, card: Card) -> bool:
    dtypes = (
        (torch.float32, *HALF)
        if card.compute_capability >= (8, 0)
        else (
            torch.float32,
            torch.float16,
        )
    )
    return (
        torch._C._get_mem_efficient_sdp_enabled()
        and query.dtype in dtypes
        and query.shape[1] == key.shape[1]  # torch 2.13 has no grouped queries here
        and (mask is None or mask.dtype in (query.dtype, torch.bool))
    )


def _flash(
    query: Tensor, key: Tensor, value: Tensor, dropout: float, is_causal: bool, scale: float
) -> Tensor:
    # pad_last_dim of attention.cpp: the flash kernels take head sizes in multiples of 8.
    size = query.shape[-1]
    padding = -size % 8
    if padding:
        query, key, value = (functional.pad(t, (0, padding)) for t in (query, key, value))
    out: Tensor = aten._scaled_dot_product_flash_attention(
        query, key, value, dropout, is_causal, False, scale=scale
    )[0]
    return out[..., :size] if padding else out


def _as_bias(mask: Tensor | None, query: Tensor, key: Tensor) -> Tensor | None:
    # convert_boolean_attn_mask and preprocess_mask of attention.cpp.
    if mask is None:
        return None
    if mask.dtype is torch.bool:
        mask = torch.where(
            mask,
            torch.zeros((), dtype=query.dtype, device=mask.device),
            torch.full((), -math.inf, dtype=query.dtype, device=mask.device),
        )
    size = mask.shape[-1]
    if size % EFFICIENT_ALIGNMENT:
        mask = functional.pad(mask, (0, -size % EFFICIENT_ALIGNMENT))[..., :size]
    return mask.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
