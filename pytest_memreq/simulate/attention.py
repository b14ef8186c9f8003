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
from pytest_memreq.simulate.versions import torch_version

aten = torch.ops.aten
Kernel = Literal["cudnn", "flash", "efficient", "math"]
HALF = (torch.float16, torch.bfloat16)
EFFICIENT_ALIGNMENT = 8
FUSED_SINCE = (2, 15)  # without a batch, and efficient attention with grouped queries


def choose_kernel(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, card: Card
) -> Kernel:
    """The first kernel in the card's order of preference that admits these tensors."""
    if query.dim() != 4:
        return "math"
    admits = {
        "cudnn": _admits_cudnn(query, value, mask, card),
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
) -> Tensor:
    """`scaled_dot_product_attention` by the kernel that the card would choose."""
    if query.dim() == 3 and torch_version() >= FUSED_SINCE:
        q, k, v = (tensor.unsqueeze(0) for tensor in (query, key, value))
        more = mask.unsqueeze(0) if mask is not None and mask.dim() == 3 else mask
        return attend(card, q, k, v, more, dropout, is_causal, scale).squeeze(0)
    kernel = choose_kernel(query, key, value, mask, card)
    if kernel == "math":
        return _by_hand(query, key, value, mask, dropout, is_causal, scale)
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
    return torch_version() >= (2, 13) and card.compute_capability in ((9, 0), (10, 0))


def _admits_cudnn(query: Tensor, value: Tensor, mask: Tensor | None, card: Card) -> bool:
    sizes = (query.shape[-1], value.shape[-1])
    return (
        torch._C._get_cudnn_sdp_enabled()
        and torch.backends.cudnn.enabled
        and query.dtype in HALF
        # check_attn_mask_shape of aten/src/ATen/native/transformers/sdp_utils_cpp.h
        and not (mask is not None and mask.requires_grad)
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
        and (query.shape[1] == key.shape[1] or torch_version() >= FUSED_SINCE)
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


def _by_hand(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float,
    is_causal: bool,
    scale: float | None,
) -> Tensor:
    # _scaled_dot_product_attention_math of attention.cpp. Torch's own would add the mask to meta
    # tensors out of place.
    dtype = query.dtype
    if mask is not None and mask.dtype is torch.bool:
        mask = _added(mask, dtype)
    if dtype in HALF and not torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed():
        query, key, value = (tensor.float() for tensor in (query, key, value))
    root = math.sqrt(query.shape[-1] ** -0.5 if scale is None else scale)
    scaled = query * root
    if is_causal:
        size = (query.shape[-2], key.shape[-2])
        mask = _added(torch.ones(size, dtype=torch.bool, device=query.device).tril(), query.dtype)
    if query.dim() > 2 and query.shape[-3] != key.shape[-3]:
        key, value = (t.repeat_interleave(query.shape[-3] // t.shape[-3], -3) for t in (key, value))
    weights = scaled @ (key.transpose(-2, -1) * root)
    if mask is not None:
        weights.add_(mask)
    weights = aten._safe_softmax(weights, -1)
    if dropout:
        weights = torch.dropout(weights, dropout, True)
    as_given = weights.to(dtype)  # noqa: F841 - torch's second result lives until the end
    mixed = weights @ value
    result = mixed.to(dtype)
    del mixed
    return result


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What to add to scores (convert_boolean_attn_mask of attention.cpp)."""
    return torch.where(
        mask,
        torch.zeros((), dtype=dtype, device=mask.device),
        torch.full((), -math.inf, dtype=dtype, device=mask.device),
    )


def _as_bias(mask: Tensor | None, query: Tensor, key: Tensor) -> Tensor | None:
    # preprocess_mask of attention.cpp.
    if mask is None:
        return None
    if mask.dtype is torch.bool:
        mask = _added(mask, query.dtype)
    size = mask.shape[-1]
    if mask.stride(-2) % EFFICIENT_ALIGNMENT or mask.stride(-1) != 1:
        mask = functional.pad(mask, (0, -size % EFFICIENT_ALIGNMENT))[..., :size]
    return mask.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
