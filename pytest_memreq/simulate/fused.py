"""Layers that CUDA runs as one operator each: recurrent cells, encoder layers in inference.

Written with the operators whose memory theirs is; what is made in the result of another is left
out.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

aten = torch.ops.aten


def gru_cell(
    tensor: Tensor,
    hidden: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> Tensor:
    """`gru_cell` of aten/src/ATen/native/RNN.cpp, where `is_cuda()` holds."""
    gates = functional.linear(tensor, w_ih), functional.linear(hidden, w_hh)
    result: Tensor = aten._thnn_fused_gru_cell(*gates, hidden, b_ih, b_hh)[0]
    return result


def lstm_cell(
    tensor: Tensor,
    hidden: list[Tensor],
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> Any:
    """`lstm_cell` of the same file: the hidden and the cell state."""
    gates = functional.linear(tensor, w_ih), functional.linear(hidden[0], w_hh)
    return aten._thnn_fused_lstm_cell(*gates, hidden[1], b_ih, b_hh)[:2]


def encoder_layer(
    src: Tensor,
    _embed_dim: int,
    num_heads: int,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    proj_weight: Tensor,
    proj_bias: Tensor,
    _use_gelu: bool,
    norm_first: bool,
    _eps: float,
    norm_weight_1: Tensor,
    norm_bias_1: Tensor,
    norm_weight_2: Tensor,
    norm_bias_2: Tensor,
    ffn_weight_1: Tensor,
    ffn_bias_1: Tensor,
    ffn_weight_2: Tensor,
    ffn_bias_2: Tensor,
    mask: Tensor | None = None,
    _mask_type: int | None = None,
) -> Tensor:
    """transformer_encoder_layer_forward of aten/src/ATen/native/transformers/transformer.cpp."""

    def norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return functional.layer_norm(x, weight.shape, weight, bias)

    def feed_forward(x: Tensor) -> Tensor:
        # The activation is part of the first product's kernel.
        return functional.linear(
            functional.linear(x, ffn_weight_1, ffn_bias_1), ffn_weight_2, ffn_bias_2
        )

    projections = (qkv_weight, qkv_bias, proj_weight, proj_bias)
    x = norm(src, norm_weight_1, norm_bias_1) if norm_first else src
    x = _attend_to_itself(x, num_heads, *projections, mask).add_(src)
    if not norm_first:
        x = norm(x, norm_weight_1, norm_bias_1)
    before = x
    x = feed_forward(norm(x, norm_weight_2, norm_bias_2) if norm_first else x).add_(before)
    return x if norm_first else norm(x, norm_weight_2, norm_bias_2)


def multi_head_attention(
    query: Tensor,
    _key: Tensor,
    _value: Tensor,
    _embed_dim: int,
    num_heads: int,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    proj_weight: Tensor,
    proj_bias: Tensor,
    mask: Tensor | None = None,
    need_weights: bool = True,
    average_attn_weights: bool = True,
    _mask_type: int | None = None,
) -> tuple[Tensor, Tensor | None]:
    """native_multi_head_attention_cuda of aten/src/ATen/native/transformers/cuda/attention.cu.

    Python asks for it where query, key and value are one tensor.
    """
    projections = (qkv_weight, qkv_bias, proj_weight, proj_bias)
    if not need_weights:
        return _attend_to_itself(query, num_heads, *projections, mask), None
    batch, length, width = query.shape
    qkv = functional.linear(query, qkv_weight)
    parts = torch.empty(
        (3, batch * num_heads, length, width // num_heads), dtype=qkv.dtype, device=qkv.device
    )  # _transform_bias_rescale_qkv
    del qkv
    scores = torch.bmm(parts[0], parts[1].transpose(1, 2))  # the softmax is in place
    mixed = torch.bmm(scores, parts[2])
    result = functional.linear(mixed.view(batch, length, width), proj_weight, proj_bias)
    del mixed
    weights = scores.view(batch, num_heads, length, length)
    return result, weights.mean(1) if average_attn_weights else weights


def _attend_to_itself(
    x: Tensor,
    num_heads: int,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    proj_weight: Tensor,
    proj_bias: Tensor,
    mask: Tensor | None,
) -> Tensor:
    batch, length, width = x.shape
    qkv = functional.linear(x, qkv_weight, qkv_bias)
    q, k, v = (part.view(batch, length, num_heads, -1).transpose(1, 2) for part in qkv.chunk(3, -1))
    mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    mixed = mixed.transpose(1, 2).reshape(batch, length, width)
    return functional.linear(mixed, proj_weight, proj_bias)
