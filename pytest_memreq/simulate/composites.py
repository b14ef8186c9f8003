"""Composite operators that take another way on CUDA than on meta tensors.

Torch decomposes a composite operator before a dispatch mode sees it, and asks `is_cuda()` on the
way. The kernels here are registered for meta tensors with and without autograd while a pretended
device is active. In inference mode composite operators reach the mode whole; it looks them up in
the same table.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.library import Library

from pytest_memreq.simulate import fused
from pytest_memreq.simulate.attention import attend
from pytest_memreq.simulate.cards import Card
from pytest_memreq.simulate.storages import is_meta

aten = torch.ops.aten
Kernel = Callable[..., Any]
_DEFAULT_LINEAR = aten.linear.default.decompose


def kernels_for(card: Card) -> dict[str, Kernel]:
    """Operator name, as `library.impl` takes it, to the kernel that goes CUDA's way."""

    def attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        return attend(card, query, key, value, attn_mask, dropout_p, is_causal, scale)

    kernels: dict[str, Kernel] = {
        "scaled_dot_product_attention": attention,
        "dropout": _dropout,
        "mish_backward": _mish_backward,
        "one_hot": _one_hot,
        "ctc_loss.IntList": _sequence_loss,
        "ctc_loss.Tensor": _sequence_loss,
        "gru_cell": fused.gru_cell,
        "lstm_cell": fused.lstm_cell,
        "_transformer_encoder_layer_fwd": fused.encoder_layer,
        "_native_multi_head_attention": fused.multi_head_attention,
        "linear": _linear,
        "softmax.int": _softmax(aten._softmax),
        "log_softmax.int": _softmax(aten._log_softmax),
    }
    if hasattr(aten, "_fused_rms_norm"):  # CUDA has the fused kernel where the operator exists
        kernels["rms_norm"] = _rms_norm
    return kernels


def register(library: Library, kernels: dict[str, Kernel]) -> None:
    """Put the kernels into `library` for meta tensors, with autograd and without."""
    for name, kernel in kernels.items():
        for key in ("AutogradMeta", "Meta"):
            # Library.impl refuses Meta kernels of composite operators, which elsewhere would hide
            # their decomposition; here that is the purpose.
            raw = library.m
            assert raw is not None  # a library of kind IMPL has one until it is destroyed
            raw.impl(name, key, kernel, False)


def _dropout(tensor: Tensor, p: float, train: bool) -> Tensor:
    # is_fused_kernel_acceptable of aten/src/ATen/native/Dropout.cpp: on CUDA one kernel returns
    # the output and a mask of a byte an element.
    if not train or p == 0 or tensor.numel() == 0:
        return tensor
    if p == 1:
        return tensor * torch.zeros((), dtype=tensor.dtype, device=tensor.device)
    result: Tensor = aten.native_dropout(tensor, p, train)[0]
    return result


def _mish_backward(grad: Tensor, tensor: Tensor) -> Tensor:
    # aten/src/ATen/native/Activation.cpp: CUDA has a kernel, other devices a formula of operators.
    return grad * tensor


def _one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    # aten/src/ATen/native/Onehot.cpp: on CUDA ones are scattered, on meta tensors compared.
    if num_classes < 0:
        num_classes = int(tensor.max().item()) + 1
    result = torch.zeros(*tensor.shape, num_classes, dtype=torch.int64, device=tensor.device)
    return result.scatter_(-1, tensor.unsqueeze(-1), 1)


def _sequence_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: int = 1,
    zero_infinity: bool = False,
) -> Tensor:
    # ctc_loss of aten/src/ATen/native/LossCTC.cpp takes lengths on the CPU for numbers, and gives
    # meta tensors another way. Of cuDNN's kernel, for blank 0 and short targets, nothing is known.
    steps, batch = log_probs.shape[:2]
    lengths = [
        _lengths(input_lengths, [steps] * batch),
        _lengths(target_lengths, _shared_out(targets, batch)),
    ]
    loss: Tensor = aten._ctc_loss(log_probs, targets, *lengths, blank, zero_infinity)[0]
    if zero_infinity:
        loss = torch.where(loss == math.inf, torch.zeros_like(loss), loss)
    if reduction == 1:
        divisors = torch.tensor(lengths[1], dtype=loss.dtype, device=log_probs.device)
        return (loss / divisors.clamp_min(1)).mean()
    return loss.sum() if reduction == 2 else loss


def _lengths(given: Any, otherwise: list[int]) -> list[int]:
    # On the card they have no values, so they are as long as they can be.
    return otherwise if isinstance(given, Tensor) and is_meta(given) else list(map(int, given))


def _shared_out(targets: Tensor, batch: int) -> list[int]:
    if targets.dim() == 2:
        return [targets.shape[1]] * batch
    each, more = divmod(targets.numel(), batch)
    return [each + (at < more) for at in range(batch)]


def _linear(tensor: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    # aten/src/ATen/native/Linear.cpp: what addmm cannot take is a product, and the bias is added
    # in place; on meta tensors, for which is_tensor_subclass_like holds, out of place.
    takes_addmm = tensor.dim() == 2 or (tensor.dim() > 2 and tensor.is_contiguous())
    if bias is None:
        result: Tensor = _DEFAULT_LINEAR(tensor, weight, bias)
        return result
    if takes_addmm:
        if tensor.dim() == 2:
            return torch.addmm(bias, tensor, weight.t())
        flat = tensor.view(-1, tensor.shape[-1])
        return torch.addmm(bias, flat, weight.t()).view(*tensor.shape[:-1], weight.shape[0])
    return torch.matmul(tensor, weight.t()).add_(bias)


def _softmax(operator: Any) -> Kernel:
    # aten/src/ATen/native/SoftMax.cpp: on CUDA the cast from half to float is part of the kernel.
    def kernel(tensor: Tensor, dim: int, dtype: torch.dtype | None = None) -> Any:
        if dtype is torch.float32 and tensor.dtype is torch.float16:
            return operator(tensor, dim, True)
        return operator(tensor if dtype is None else tensor.to(dtype), dim, False)

    return kernel


class _FusedRmsNorm(torch.autograd.Function):
    """`aten._fused_rms_norm`, which has no meta kernel; it saves one float a row for backward.

    aten/src/ATen/native/cuda/layer_norm_kernel.cu.
    """

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, weight: Tensor | None, dims: int) -> Tensor:
        is_recorded = any(ctx.needs_input_grad)
        whole = tensor.contiguous()
        rows = (*tensor.shape[: tensor.dim() - dims], *([1] * dims))
        # The operator is recorded itself; a Function of Python has recording off within it.
        with torch.set_grad_enabled(is_recorded):
            result = torch.empty_like(whole)
            rstd = torch.empty(rows, dtype=torch.float32, device=tensor.device)
        del whole
        ctx.save_for_backward(tensor, weight, rstd)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None]:
        tensor, weight, _ = ctx.saved_tensors
        whole = tensor.contiguous()
        made = [
            torch.empty_like(like) if is_needed else None
            for like, is_needed in zip((whole, weight), ctx.needs_input_grad, strict=False)
        ]
        rows = grads[0].contiguous()
        del rows, whole
        return made[0], made[1], None  # type: ignore[return-value]  # the first is a tensor


def _rms_norm(
    tensor: Tensor, shape: list[int], weight: Tensor | None = None, eps: float | None = None
) -> Any:
    return _FusedRmsNorm.apply(tensor, weight, len(shape))  # type: ignore[no-untyped-call]  # torch's
