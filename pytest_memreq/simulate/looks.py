"""Ways to look at the values of a pretended tensor, which has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pytest_memreq.simulate.streams import DEVICE

_Base = torch._C.TensorBase
IsPretended = Callable[[Tensor], bool]


def as_list(is_pretended: IsPretended) -> Callable[[Tensor], Any]:
    return lambda tensor: _Base.tolist(tensor.cpu() if is_pretended(tensor) else tensor)


def as_array(is_pretended: IsPretended) -> Callable[..., Any]:
    def numpy(tensor: Tensor, *, force: bool = False) -> Any:
        if not is_pretended(tensor):
            return _Base.numpy(tensor, force=force)
        if force:
            return _Base.numpy(tensor.detach().cpu(), force=True)
        raise TypeError(
            f"can't convert {DEVICE} device type tensor to numpy. "
            "Use Tensor.cpu() to copy the tensor to host memory first."
        )

    return numpy


def represented(is_pretended: IsPretended, original: Callable[..., str]) -> Callable[..., str]:
    def represent(tensor: Tensor, **kwargs: Any) -> str:
        if not is_pretended(tensor):
            return original(tensor, **kwargs)
        shape = tuple(tensor.shape)
        return f"tensor(..., device='{DEVICE}', size={shape}, dtype={tensor.dtype})"

    return represent


def formatted(is_pretended: IsPretended, original: Callable[..., str]) -> Callable[..., str]:
    def format_(tensor: Tensor, spec: str) -> str:
        if is_pretended(tensor) and tensor.dim() == 0:
            return format(tensor.item(), spec)
        return repr(tensor) if is_pretended(tensor) else original(tensor, spec)

    return format_
