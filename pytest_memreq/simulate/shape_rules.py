"""Shapes of results of operators that have a CUDA kernel and, in torch, no meta kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def like(*positions: int) -> Callable[..., Any]:
    """Results shaped as the arguments at these positions."""

    def shapes(*args: Any) -> Any:
        made = [torch.empty_like(args[at]) for at in positions]
        return made[0] if len(made) == 1 else tuple(made)

    return shapes


def with_mask(tensor: Tensor, *_rest: Any) -> tuple[Tensor, Tensor]:
    """The result and a truth value for each of its elements."""
    return torch.empty_like(tensor), torch.empty_like(tensor, dtype=torch.bool)


def gru_cell(_input_gates: Tensor, _hidden_gates: Tensor, hidden: Tensor, *_biases: Any) -> Any:
    """The hidden state and what backward needs, five gates wide (native/cuda/RNN.cu)."""
    rows, width = hidden.shape
    return torch.empty_like(hidden), hidden.new_empty(rows, 5 * width)


def gru_cell_backward(grad: Tensor, workspace: Tensor, has_bias: bool) -> Any:
    """Gradients of both gates, of the hidden state and of the biases (the same file)."""
    rows, width = grad.shape
    gates = [workspace.new_empty(rows, 3 * width) for _ in range(2)]
    biases = [workspace.new_empty(3 * width) if has_bias else None for _ in range(2)]
    return *gates, workspace.new_empty(rows, width), *biases


def sequence_loss(
    log_probs: Tensor, targets: Tensor, _input_lengths: Any, target_lengths: Any, *_rest: Any
) -> tuple[Tensor, Tensor]:
    """Losses of a batch and the forward variables (native/cuda/LossCTC.cu)."""
    steps, batch, _ = log_probs.shape
    most = targets.shape[1] if targets.dim() == 2 else max(map(int, target_lengths))
    return log_probs.new_empty(batch), log_probs.new_empty(batch, steps, 2 * most + 1)


def packed(padded: Tensor, _offsets: Any, rows: int | None = None) -> Tensor:
    """Rows of all sequences one after another; without their number, as if none was padded."""
    return padded.new_empty(
        padded.shape[0] * padded.shape[1] if rows is None else rows, *padded.shape[2:]
    )


SHAPES: dict[str, Callable[..., Any]] = {
    "aten._thnn_fused_gru_cell": gru_cell,
    "aten._thnn_fused_gru_cell_backward": gru_cell_backward,
    "aten._ctc_loss": sequence_loss,
    "aten._ctc_loss_backward": like(1),
    "aten._logcumsumexp": like(0),
    "aten._weight_norm_interface_backward": like(1, 2),
    "aten._padded_dense_to_jagged_forward": packed,
    "aten._standard_gamma_grad": like(0),
    "aten._dirichlet_grad": like(0),
    "aten._sample_dirichlet": like(0),
    "aten.binomial": like(0),
    "aten._masked_softmax": like(0),
    "aten._masked_softmax_backward": like(0),
    "aten.multi_margin_loss_backward": like(1),
    "aten.multilabel_margin_loss_backward": like(1),
    "aten.fake_quantize_per_tensor_affine_cachemask": with_mask,
    "aten.fake_quantize_per_channel_affine_cachemask": with_mask,
    "aten._fake_quantize_per_tensor_affine_cachemask_tensor_qparams": with_mask,
    "aten._fake_quantize_learnable_per_tensor_affine": like(0),
    "aten._fake_quantize_learnable_per_tensor_affine_backward": like(1, 2, 3),
    "aten._fake_quantize_learnable_per_channel_affine": like(0),
    "aten._fake_quantize_learnable_per_channel_affine_backward": like(1, 2, 3),
}
