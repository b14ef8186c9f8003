"""Operators of torch that take functions: flex_attention and cond.

They have no kernels for a dispatch mode, and are met where torch's own Python calls them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch._dynamo import eval_frame

from pytest_memreq.errors import SimulationError
from pytest_memreq.replacing import Replacement
from pytest_memreq.simulate.imports import replaced_in

FLEX = "torch.nn.attention.flex_attention"
COND = "torch._higher_order_ops.cond"
FUSED = (
    "flex_attention is simulated as the kernel that torch.compile makes of it: its result, a "
    "logsumexp, and in backward three gradients and a sum a row; gradients of what its functions "
    "use are not counted"
)
NOT_COMPILED = (
    "flex_attention without torch.compile makes the whole matrix of scores, which is not "
    "simulated; compile it, or measure this test on a device (--memreq measure)"
)


@contextmanager
def taking_functions(notes: dict[str, None]) -> Iterator[None]:
    """Within it those operators run on the pretended card."""

    def flex(module: Any) -> Iterator[Replacement]:
        yield module, "flex_attention_hop", _flex_attention(notes)
        yield module, "_warn_once", lambda *_args, **_kwargs: None  # that it is not compiled

    def cond(module: Any) -> Iterator[Replacement]:
        yield module, "cond_op", _cond

    with ExitStack() as stack:
        stack.enter_context(replaced_in(FLEX, flex))
        stack.enter_context(replaced_in(COND, cond))
        yield


def _cond(pred: Any, true_fn: Callable[..., Any], false_fn: Any, operands: Sequence[Any]) -> Any:
    return (true_fn if pred else false_fn)(*operands)


def _flex_attention(notes: dict[str, None]) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    def flex_attention_hop(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        _score_mod: Any,
        _block_mask: Any,
        _scale: Any,
        kernel_options: dict[str, Any],
        *_buffers: Any,
    ) -> tuple[Tensor, Tensor, Tensor]:
        if not _is_compiled(sys._getframe(1)):
            raise SimulationError(NOT_COMPILED)
        notes.setdefault(FUSED)
        out, logsumexp = _Fused.apply(query, key, value)  # type: ignore[no-untyped-call]  # torch's
        has_max = kernel_options.get("OUTPUT_MAX", False)
        return out, logsumexp, query.new_empty(logsumexp.shape if has_max else 0, dtype=torch.float)

    return flex_attention_hop


def _is_compiled(frame: FrameType | None) -> bool:
    """True if user code compiled what called flex_attention, which compiles itself as well."""
    is_outside = False
    while frame is not None:
        if is_outside and frame.f_code.co_filename == eval_frame.__file__:
            return True
        is_outside = is_outside or frame.f_code.co_name == "flex_attention"
        frame = frame.f_back
    return False


class _Fused(torch.autograd.Function):
    """The buffers of torch/_inductor/kernel/flex/flex_attention.py."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        out = query.new_empty((*query.shape[:-1], value.shape[-1]))
        logsumexp = query.new_empty(query.shape[:-1], dtype=torch.float)
        ctx.save_for_backward(query, key, value, out, logsumexp)
        ctx.set_materialize_grads(False)
        return out, logsumexp

    @staticmethod
    def backward(ctx: Any, *_grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value, _out, logsumexp = ctx.saved_tensors
        delta = torch.empty_like(logsumexp)
        grads = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        del delta
        return grads
