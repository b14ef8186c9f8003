"""CUDA autocast for pretended tensors.

C++ autocast casts a tensor only if `is_cuda()` says so (aten/src/ATen/autocast_mode.h,
`is_eligible`), which a meta tensor denies. These kernels take its place under the AutocastCUDA key
while a pretended device is active. The operator lists are those of AT_FORALL_LOWER_PRECISION_FP,
AT_FORALL_FP32, AT_FORALL_FP32_SET_OPT_DTYPE and AT_FORALL_PROMOTE there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.library import Library

from pytest_memreq.replacing import replaced
from pytest_memreq.simulate.storages import is_meta, tensors_in

_KEY = torch._C.DispatchKey.AutocastCUDA

LOWER_PRECISION = """
    _convolution conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d.input
    conv_transpose3d.input convolution prelu addmm addmv addr matmul einsum mm mv linalg_vecdot
    linear addbmm baddbmm bmm chain_matmul linalg_multi_dot _thnn_fused_lstm_cell
    _thnn_fused_gru_cell lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell
    _scaled_dot_product_flash_attention scaled_dot_product_attention
"""
FP32 = """
    acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan
    pow.Tensor_Scalar pow.Tensor_Tensor pow.Scalar softplus layer_norm native_layer_norm rms_norm
    group_norm frobenius_norm.dim nuclear_norm nuclear_norm.dim cosine_similarity poisson_nll_loss
    cosine_embedding_loss nll_loss nll_loss2d hinge_embedding_loss kl_div l1_loss smooth_l1_loss
    huber_loss mse_loss margin_ranking_loss multilabel_margin_loss soft_margin_loss
    triplet_margin_loss multi_margin_loss binary_cross_entropy_with_logits dist pdist cdist renorm
    logsumexp upsample_nearest1d _upsample_nearest_exact1d upsample_nearest2d
    _upsample_nearest_exact2d upsample_nearest3d _upsample_nearest_exact3d upsample_linear1d
    upsample_bilinear2d _upsample_bilinear2d_aa upsample_trilinear3d upsample_bicubic2d
    _upsample_bicubic2d_aa
"""
FP32_RESULT = """
    prod prod.dim_int softmax.int log_softmax.int cumprod cumsum linalg_vector_norm
    linalg_matrix_norm linalg_matrix_norm.str_ord sum sum.dim_IntList
"""
PROMOTE = """
    addcdiv addcmul atan2 bilinear cross dot vdot grid_sampler index_put tensordot scatter_add
"""

Cast = Callable[[Any], Any]
_KEYS = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCUDA)
_Excluded = torch._C._ExcludeDispatchKeyGuard


class WeightCasts:
    """Casts of leaf weights, kept until the outermost autocast is left, as `cached_cast` does."""

    def __init__(self) -> None:
        self._casts: dict[int, tuple[Tensor, Tensor]] = {}

    def clear(self) -> None:
        """What torch.clear_autocast_cache asks for."""
        self._casts.clear()

    def cast(self, value: Any, dtype: torch.dtype) -> Any:
        """`value` with its eligible tensors cast; lists and tuples keep their kind."""
        if isinstance(value, (list, tuple)):
            return type(value)([self.cast(item, dtype) for item in value])
        if not isinstance(value, Tensor) or not _is_eligible(value) or value.dtype == dtype:
            return value
        if not _is_kept(value, dtype):
            return value.to(dtype)
        known = self._casts.get(id(value))
        if known is None:
            known = self._casts[id(value)] = (value, value.to(dtype))
        return known[1]


def register(library: Library, casts: WeightCasts) -> None:
    """Put the kernels of all four lists into `library`."""
    kinds = {
        LOWER_PRECISION: _to_autocast_dtype,
        FP32: _to_fp32,
        FP32_RESULT: _with_fp32_result,
        PROMOTE: _to_widest,
    }
    for names, make in kinds.items():
        for name in names.split():
            overload = _overload(name)
            if overload is not None:
                kernel = make(overload, casts)
                library.impl(name, kernel, "AutocastCUDA", allow_override=True)


def _overload(name: str) -> Any:
    base, _, overload = name.partition(".")
    packet = getattr(torch.ops.aten, base, None)  # a list entry that this torch lacks
    return None if packet is None else getattr(packet, overload or "default", None)


def _is_eligible(tensor: Tensor) -> bool:
    return is_meta(tensor) and tensor.is_floating_point() and tensor.dtype != torch.float64


def _is_kept(tensor: Tensor, dtype: torch.dtype) -> bool:
    return (
        dtype in (torch.float16, torch.bfloat16)
        and tensor.dtype == torch.float32
        and tensor.requires_grad
        and tensor.is_leaf
        and not tensor._is_view()
        and torch.is_autocast_cache_enabled()
    )


def _cast_all(casts: WeightCasts, args: Any, kwargs: Any, dtype: torch.dtype) -> tuple[Any, Any]:
    # The compiler that torch's wheels are built with evaluates a call's arguments from right to
    # left: bias, weight, input. It decides the order of the allocations.
    kwargs = {name: casts.cast(value, dtype) for name, value in kwargs.items()}
    return [casts.cast(value, dtype) for value in reversed(args)][::-1], kwargs


def _has_meta(args: Any) -> bool:
    return any(is_meta(tensor) for tensor in tensors_in(args))


def _to_autocast_dtype(overload: Any, casts: WeightCasts) -> Cast:
    def kernel(*args: Any, **kwargs: Any) -> Any:
        with _Excluded(_KEYS):
            if _has_meta(args):
                dtype = torch.get_autocast_dtype("cuda")
                args, kwargs = _cast_all(casts, args, kwargs, dtype)
            return overload(*args, **kwargs)

    return kernel


def _to_fp32(overload: Any, casts: WeightCasts) -> Cast:
    def kernel(*args: Any, **kwargs: Any) -> Any:
        with _Excluded(_KEYS):
            if _has_meta(args):
                args, kwargs = _cast_all(casts, args, kwargs, torch.float32)
            return overload(*args, **kwargs)

    return kernel


def _with_fp32_result(overload: Any, _casts: WeightCasts) -> Cast:
    names = [argument.name for argument in overload._schema.arguments]
    position = names.index("dtype")

    def kernel(*args: Any, **kwargs: Any) -> Any:
        with _Excluded(_KEYS):
            if isinstance(args[0], Tensor) and _is_eligible(args[0]):
                given = args[position] if position < len(args) else kwargs.get("dtype")
                if given is None:
                    args = args[:position]
                    kwargs = {**kwargs, "dtype": torch.float32}
            return overload(*args, **kwargs)

    return kernel


def _to_widest(overload: Any, casts: WeightCasts) -> Cast:
    def kernel(*args: Any, **kwargs: Any) -> Any:
        with _Excluded(_KEYS):
            if _has_meta(args):
                single = any(tensor.dtype == torch.float32 for tensor in tensors_in(args))
                dtype = torch.float32 if single else torch.get_autocast_dtype("cuda")
                args, kwargs = _cast_all(casts, args, kwargs, dtype)
            return overload(*args, **kwargs)

    return kernel


@contextmanager
def on_meta(casts: WeightCasts) -> Iterator[None]:
    """Within it, CUDA's autocast sees meta tensors, and clearing its cache clears `casts` too."""
    # The key is in the set of every call of this thread; autocast excludes it when it is off.
    before = torch._C._dispatch_tls_is_dispatch_key_included(_KEY)
    clear = torch.clear_autocast_cache

    def clear_both() -> None:
        casts.clear()
        clear()

    torch._C._dispatch_tls_set_dispatch_key_included(_KEY, True)
    try:
        with replaced([(torch, "clear_autocast_cache", clear_both)]):
            yield
    finally:
        casts.clear()
        torch._C._dispatch_tls_set_dispatch_key_included(_KEY, before)
