"""What autograd does in place on CUDA, and never while a dispatch mode is active.

Where several backward nodes lead into one, the engine adds their gradients up. It adds into the
first if it alone holds that tensor and its storage (torch/csrc/autograd/input_buffer.cpp,
`can_accumulate_inplace`), but never while a dispatch mode is active: then it allocates. This tells
which of those sums would have been in place. Some formulas of gradients likewise write into a fresh
tensor (areAnyTensorSubclassLike in torch/csrc/autograd/FunctionsManual.cpp).
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import _engine_run_backward
from torch.utils._python_dispatch import TorchDispatchMode

from pytest_memreq.simulate.storages import storage_of

_ZEROS = ("aten.new_zeros", "aten.zeros")
_COMPARED = ("aten.eq", "aten.ne", "aten.isnan")
# Operators that formulas apply in place to what one of these has just made: gather_backward,
# index_select_backward, index_backward, masked_select_backward, value_selecting_reduction_backward,
# evenly_distribute_backward and binary_cross_entropy_with_logits_backward.
IN_PLACE_IN_FORMULAS: dict[str, tuple[str, ...]] = {
    **{
        f"aten.{name}": _ZEROS
        for name in ("scatter", "scatter_add", "index_add", "index_put", "masked_scatter")
    },
    **dict.fromkeys(("aten.logical_and", "aten.logical_or"), _COMPARED),
    **dict.fromkeys(("aten.sub", "aten.mul"), ("aten.sigmoid",)),
}


def is_called_by_autograd(frames_up: int) -> bool:
    """True if the frame that many above is the engine's: no Python of a user's is in between."""
    return sys._getframe(frames_up + 1).f_code is _engine_run_backward.__code__


def would_be_in_place(first: Tensor, frames_up: int) -> bool:
    """True if the engine, that many frames above, adds to a `first` that it alone holds."""
    return (
        is_called_by_autograd(frames_up + 1)
        and not torch.is_grad_enabled()
        and owners(first) == owners_of_a_lone_gradient()
        and _is_dense(first)
    )


def owners(tensor: Tensor) -> tuple[int, int]:
    """How many hold the tensor, and how many its storage, as C++ counts while Python looks on."""
    count: int = tensor._use_count()  # type: ignore[attr-defined]  # missing in torch's stubs
    return count, torch._C._storage_Use_Count(storage_of(tensor)._cdata)


@cache
def owners_of_a_lone_gradient() -> tuple[int, int]:
    """The counts of a gradient that only the engine holds: asked of torch, for versions differ.

    Must first be called while no backward runs.
    """
    probe = _Probe()  # type: ignore[no-untyped-call]  # torch's
    with torch.inference_mode(False), torch.enable_grad():
        inner = torch.ones(2, requires_grad=True) * 2
        result = (inner.exp() + inner.sin()).cos().sum()
    with probe:
        result.backward()
    return probe.seen


def _is_dense(tensor: Tensor) -> bool:
    # An expanded gradient spans fewer elements than it has, a strided one more.
    span = 1 + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    return span == tensor.numel()


class _Probe(TorchDispatchMode):
    """Notes the owners of the first operand of the sum that the engine makes."""

    seen = (0, 0)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.add.Tensor:
            self.seen = owners(args[0])
        return func(*args, **(kwargs or {}))
