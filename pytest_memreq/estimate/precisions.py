"""Precisions: bytes an element of weights, gradients, optimizer states and activations."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """Bytes an element of each term.

    `copies` are held by the optimizer beside its own states, each of `state_bytes` an element.
    `cast_bytes` an element are held for a pass, where it casts weights as it goes. An activation
    is of `activation_bytes` where a layer table is counted, of `compute_bytes` where the layers of
    a transformer are known one by one. `buffer_bytes` is None where buffers keep their own size.
    """

    parameter_bytes: int
    gradient_bytes: int
    state_bytes: int
    activation_bytes: int
    compute_bytes: int
    copies: tuple[str, ...] = ()
    cast_bytes: int = 0
    buffer_bytes: int | None = None


_HALF = Precision(
    parameter_bytes=2,
    gradient_bytes=2,
    state_bytes=2,
    activation_bytes=2,
    compute_bytes=2,
    buffer_bytes=2,
)

PRECISIONS: dict[str, Precision] = {
    # The founding formula, 20 bytes with Adam; ZeRO-Infinity (arXiv 2104.07857), section 3, counts
    # the same: parameter and gradient in half precision, a copy of both and the states in single.
    "mixed": Precision(
        parameter_bytes=2,
        gradient_bytes=2,
        state_bytes=4,
        activation_bytes=4,
        compute_bytes=2,
        copies=("parameter", "gradient"),
    ),
    # 16 bytes with Adam. ZeRO (arXiv 1910.02054), section 3.1: K = 12, no copy of the gradient.
    "mixed_half_gradients": Precision(
        parameter_bytes=2,
        gradient_bytes=2,
        state_bytes=4,
        activation_bytes=4,
        compute_bytes=2,
        copies=("parameter",),
    ),
    # 18 bytes with Adam: Megatron-LM, megatron/training/theoretical_memory_usage.py, accumulates
    # gradients in single precision and keeps none in half.
    "mixed_single_gradients": Precision(
        parameter_bytes=2,
        gradient_bytes=4,
        state_bytes=4,
        activation_bytes=4,
        compute_bytes=2,
        copies=("parameter",),
    ),
    "fp32": Precision(
        parameter_bytes=4,
        gradient_bytes=4,
        state_bytes=4,
        activation_bytes=4,
        compute_bytes=4,
    ),
    # torch.autocast over single-precision weights: aten/src/ATen/autocast_mode.cpp keeps the cast
    # of every weight until the pass is left, and the graph keeps it until backward is through.
    "autocast": Precision(
        parameter_bytes=4,
        gradient_bytes=4,
        state_bytes=4,
        activation_bytes=4,
        compute_bytes=2,
        cast_bytes=2,
    ),
    # model.to(torch.bfloat16): torch.optim makes its states like the parameters.
    "bf16": _HALF,
    "fp16": _HALF,
    # Weights held as FP8 alone, as Transformer Engine's quantized_model_init has them; the passes'
    # other numbers are in half precision, the optimizer keeps a single-precision copy.
    "fp8": Precision(
        parameter_bytes=1,
        gradient_bytes=2,
        state_bytes=4,
        activation_bytes=2,
        compute_bytes=2,
        copies=("parameter",),
    ),
}
