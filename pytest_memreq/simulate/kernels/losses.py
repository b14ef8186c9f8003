"""Kernels of losses: the loss of every element, and what sums it."""

from __future__ import annotations

import torch
from torch import Tensor

from pytest_memreq.simulate.kernels.call import (
    RESULT,
    Call,
    Events,
    Rule,
    Scratch,
    after_results,
    nested,
)
from pytest_memreq.simulate.kernels.layers import reduced


def loss_in_its_result(call: Call) -> Scratch | None:
    """A loss made element by element, then summed into a result that was made as large as they.

    The structured losses of aten/src/ATen/native/BinaryOps.cpp.
    """
    held, parts = _summed_loss(call)
    if held is None:
        return None
    events = Events()
    events.results()
    each = events.take(held)
    events.add(parts)
    events.free(each)
    return events.scratch(result_bytes=held)


def loss_beside_its_result(call: Call) -> Scratch | None:
    """A loss made element by element, then summed (huber_loss in aten/src/ATen/native/Loss.cpp)."""
    held, parts = _summed_loss(call)
    if held is None:
        return None
    events = Events()
    each = events.take(held)
    events.results()
    events.add(parts)
    events.free(each)
    return events.scratch()


def loss_with_logits(call: Call) -> Scratch | None:
    """Logarithms and the loss of every element (binary_cross_entropy_with_logits in Loss.cpp)."""
    if call.argument(4, "reduction", 1) == 0:
        return None
    tensor = call.args[0]
    held = tensor.numel() * tensor.element_size()
    events = Events()
    each = events.take(held, held)
    events.results()
    events.add(reduced(call, tensor, (), "sum"))
    events.free(each)
    return events.scratch()


def _summed_loss(call: Call) -> tuple[int | None, tuple[int, ...]]:
    """Bytes of the loss of every element, and what its sum takes; None if it is not summed."""
    tensor, other = call.args[:2]
    if call.argument(2, "reduction", 1) == 0:
        return None, ()
    shape = torch.broadcast_shapes(tensor.shape, other.shape)
    each: Tensor = torch.empty(shape, dtype=tensor.dtype, device="meta")
    return each.numel() * each.element_size(), reduced(call, each, (), "sum")


def loss_summed_over(call: Call) -> Scratch | None:
    """A loss made element by element in a result as large as they, and a sum that replaces it.

    binary_cross_entropy of aten/src/ATen/native/cuda/Loss.cu, soft_margin_loss of native/Loss.cpp.
    """
    tensor = call.args[0]
    name, place = ("reduction", 3) if len(call.args) > 3 else ("reduction", 2)
    if call.argument(place, name, 1) == 0:
        return None
    events = Events()
    events.results()
    total = events.take(tensor.element_size())
    events.add(reduced(call, tensor, (), "sum"))
    events.free(total)
    return events.scratch(result_bytes=tensor.numel() * tensor.element_size())


def soft_margin_backward(call: Call) -> Scratch:
    """Exponentials of every element, and their shares (soft_margin_loss_backward, Loss.cpp)."""
    held = call.args[1].numel() * call.args[1].element_size()
    return Scratch((RESULT, *nested(held, held), held, ~2))


def margin_loss(call: Call) -> Scratch | None:
    """Losses of the rows, then their sum (multi_margin_loss, native/cuda/MultiMarginLoss.cu)."""
    tensor = call.args[0]
    if call.argument(5, "reduction", 1) == 0:
        return None
    rows = tensor.numel() // tensor.shape[-1] * tensor.element_size()
    return after_results(call, *nested(rows))


def label_margin_loss(call: Call) -> Scratch:
    """The same, with the targets first (multilabel_margin_loss_forward)."""
    tensor = call.args[0]
    rows = tensor.numel() // tensor.shape[-1] * tensor.element_size()
    return Scratch((RESULT, rows, RESULT, ~0))


def sequence_loss(call: Call) -> Scratch:
    """Lengths and offsets of a batch (ctc_loss_gpu of aten/src/ATen/native/cuda/LossCTC.cu)."""
    lengths = [8 * call.args[0].shape[1]] * 3
    return Scratch((*lengths, RESULT, RESULT, ~2, ~1, ~0))


def sequence_loss_backward(call: Call) -> Scratch:
    """The same, and backward variables as large as the forward ones (the same file)."""
    alpha = call.args[6]
    lengths = [8 * call.args[1].shape[1]] * 3
    held = alpha.numel() * alpha.element_size()
    return Scratch((*lengths, held, RESULT, ~3, ~2, ~1, ~0))


RULES: dict[str, Rule] = {
    "aten.mse_loss": loss_in_its_result,
    "aten.smooth_l1_loss": loss_in_its_result,
    "aten.binary_cross_entropy": loss_summed_over,
    "aten.binary_cross_entropy_with_logits": loss_with_logits,
    "aten.huber_loss": loss_beside_its_result,
    "aten.soft_margin_loss": loss_summed_over,
    "aten.soft_margin_loss_backward": soft_margin_backward,
    "aten.multi_margin_loss": margin_loss,
    "aten.multilabel_margin_loss_forward": label_margin_loss,
    "aten._ctc_loss": sequence_loss,
    "aten._ctc_loss_backward": sequence_loss_backward,
}
