"""What common layers make of their input, by their own formula instead of by running them.

A rule is for a class as torch has it, not for what derives from it. It gives None for an input that
it is not about, such as one of a wrong shape: the layer then runs, and says what is wrong. Formulas
are those of each class's documentation; a test compares every rule with the layer it stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pytest_memreq.estimate.twins import META

Rule = Callable[[Any, Tensor], Tensor | None]


def _made(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    # Of all that makes a tensor this is the quickest on meta: new_empty and empty_like are Python
    # there, and import a second's worth of modules when first called.
    return torch.empty(shape, dtype=dtype, device=META)


def _made_like(x: Tensor) -> Tensor:
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=META)


def _like(_: nn.Module, x: Tensor) -> Tensor:
    return _made_like(x)


def _activation(module: Any, x: Tensor) -> Tensor:
    return x if module.inplace else _made_like(x)


def _dropout(module: Any, x: Tensor) -> Tensor:
    is_new = module.training and module.p > 0 and not module.inplace and x.numel() > 0
    return _made_like(x) if is_new else x


def _linear(module: nn.Linear, x: Tensor) -> Tensor | None:
    if x.dim() == 0 or x.shape[-1] != module.in_features:
        return None
    return _made((*x.shape[:-1], module.out_features), x.dtype)


def _convolution(module: Any, x: Tensor) -> Tensor | None:
    dims = len(module.kernel_size)
    if isinstance(module.padding, str) or x.dim() != dims + 2 or x.shape[1] != module.in_channels:
        return None
    sizes = _windows(module, x.shape[2:], module.dilation)
    if min(sizes) < 1:
        return None
    return _made((x.shape[0], module.out_channels, *sizes), x.dtype)


def _max_pool(module: Any, x: Tensor) -> Tensor | None:
    if module.ceil_mode or module.return_indices or x.dim() != 4:
        return None
    sizes = _windows(module, x.shape[2:], module.dilation)
    return _made((*x.shape[:2], *sizes), x.dtype) if min(sizes) > 0 else None


def _adaptive_pool(module: Any, x: Tensor) -> Tensor | None:
    if x.dim() != 4:
        return None
    sizes = _spread(module.output_size, 2)
    return _made(
        (*x.shape[:2], *(s or n for s, n in zip(sizes, x.shape[2:], strict=True))), x.dtype
    )


def _windows(module: Any, sizes: tuple[int, ...], dilation: int | tuple[int, ...]) -> list[int]:
    """How many windows there are along each dimension."""
    geometry = (module.padding, dilation, module.kernel_size, module.stride)
    each = zip(sizes, *(_spread(value, len(sizes)) for value in geometry), strict=True)
    return [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in each]


def _spread(value: int | tuple[int, ...], dims: int) -> tuple[int, ...]:
    return (value,) * dims if isinstance(value, int) else value


def _batch_norm(module: Any, x: Tensor) -> Tensor | None:
    is_usual = x.dim() == _DIMS[type(module)] and x.shape[1] == module.num_features
    # With one value a channel the layer refuses to be trained.
    is_enough = not module.training or x.numel() > module.num_features
    return _made_like(x) if is_usual and is_enough else None


def _norm(module: Any, x: Tensor) -> Tensor | None:
    shape = tuple(module.normalized_shape)
    return _made_like(x) if tuple(x.shape[-len(shape) :]) == shape else None


def _group_norm(module: nn.GroupNorm, x: Tensor) -> Tensor | None:
    return _made_like(x) if x.dim() > 1 and x.shape[1] == module.num_channels else None


def _embedding(module: nn.Embedding, x: Tensor) -> Tensor | None:
    if module.max_norm is not None or x.dtype not in (torch.int64, torch.int32):
        return None
    return _made((*x.shape, module.embedding_dim), module.weight.dtype)


_DIMS = {nn.BatchNorm2d: 4, nn.BatchNorm3d: 5}

RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: _linear,
    nn.Embedding: _embedding,
    nn.MaxPool2d: _max_pool,
    nn.AdaptiveAvgPool2d: _adaptive_pool,
    nn.LayerNorm: _norm,
    nn.RMSNorm: _norm,
    nn.GroupNorm: _group_norm,
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), _convolution),
    **dict.fromkeys(_DIMS, _batch_norm),
    **dict.fromkeys((nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d), _dropout),
    **dict.fromkeys((nn.GELU, nn.Sigmoid, nn.Tanh, nn.Softplus), _like),
    **dict.fromkeys(
        (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.Mish, nn.Hardswish), _activation
    ),
}


def _changed(x: Any, by: Any, **options: Any) -> Tensor | None:
    return x if not options and _are_alike(x, by) else None


def _elementwise(x: Any, other: Any, **options: Any) -> Tensor | None:
    is_usual = not options and _are_alike(x, other) and x.stride() == other.stride()
    return _made_like(x) if is_usual else None


def _attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *_: Any, **options: Any
) -> Tensor | None:
    are_usual = (
        query.shape[:-2] == key.shape[:-2] == value.shape[:-2]
        and query.shape[-1] == key.shape[-1]
        and key.shape[-2] == value.shape[-2]
        and query.dtype == key.dtype == value.dtype
    )
    if not are_usual or mask is not None or options.get("attn_mask") is not None:
        return None
    return _made((*query.shape[:-1], value.shape[-1]), query.dtype)


def _are_alike(x: Any, other: Any) -> bool:
    are_tensors = isinstance(x, Tensor) and isinstance(other, Tensor)
    return are_tensors and x.shape == other.shape and x.dtype == other.dtype


# Python on meta as well; torch's operators call these functions by each of their names.
OPERATOR_RULES: dict[Any, Callable[..., Tensor | None]] = {
    **{
        getattr(Tensor, name): _changed
        for name in ("__iadd__", "__isub__", "__imul__", "add_", "sub_", "mul_")
    },
    **{
        getattr(Tensor, name): _elementwise
        for name in ("__add__", "__sub__", "__mul__", "add", "sub", "mul")
    },
    nn.functional.scaled_dot_product_attention: _attention,
}
