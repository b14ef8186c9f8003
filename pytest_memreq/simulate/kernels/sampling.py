"""Kernels that draw: permutations and samples of a distribution."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pytest_memreq.simulate.kernels import cub
from pytest_memreq.simulate.kernels.call import (
    Call,
    Events,
    Scratch,
    after_results,
    nested,
)
from pytest_memreq.simulate.kernels.layers import reduced
from pytest_memreq.simulate.kernels.sorting import INDEX_BYTES, topk
from pytest_memreq.simulate.versions import torch_version


def permutation(call: Call) -> Scratch | None:
    """randperm_out_cuda of aten/src/ATen/native/cuda/Randperm.cu: random keys are sorted."""
    number = call.args[0]
    if number < 2:
        return None
    # So many bits that keys differ with a probability of 0.9.
    collisions = (6 * number * number + 1) / (math.log(0.9) * 12)
    bits = min(64, math.ceil(math.log2(number - collisions)))
    key_bytes = 4 if bits <= 32 else 8
    keys = number * key_bytes
    events = Events()
    events.results(len(call.results))
    events.run(INDEX_BYTES)
    sorted_bytes = cub.radix_sort(number, key_bytes, INDEX_BYTES, bits)
    events.run(number * INDEX_BYTES, keys, keys, sorted_bytes)
    return events.scratch()


def multinomial(call: Call) -> Scratch | None:
    """aten/src/ATen/native/Distributions.cpp, cuda/MultinomialKernel.cu.

    Of one sample, or without replacement, the largest of noise over the probabilities; else a
    prefix sum of what is normalized.
    """
    tensor, samples = call.args[:2]
    size_bytes = tensor.numel() * tensor.element_size()
    if call.argument(2, "replacement", False) and samples > 1:
        normalized = [size_bytes] * (2 if torch_version() >= (2, 15) else 3)
        scans = [cub.cumulative(tensor.numel(), tensor.element_size())] if tensor.dim() == 1 else []
        return after_results(call, *nested(*normalized, *scans))
    events = Events()
    events.results()
    checks = _check(events, call, tensor)
    noise = events.take(size_bytes)
    if samples > 1:
        _take_largest(events, call, tensor, samples)
    events.free((*noise, *checks))
    return events.scratch()


def _check(events: Events, call: Call, tensor: Tensor) -> list[int]:
    """Both ends are compared, and no row may be all 0; what is live until the end."""
    width = tensor.element_size()
    kept = events.take(width, width)
    events.add(reduced(call, tensor, (), "pair"))
    compared = events.take(1, 1)
    kept += events.take(1)
    events.free(compared)
    rows = tensor.numel() // tensor.shape[-1]
    sums = events.take(rows * width)
    events.add(reduced(call, tensor, (tensor.dim() - 1,), "sum"))
    are_zero = events.take(rows)
    if tensor.dim() > 1:
        kept += events.take(1)
        events.free(are_zero)
    else:
        kept += are_zero
    events.free(sums)
    events.run(1)
    return kept[::-1]


def _take_largest(events: Events, call: Call, tensor: Tensor, samples: int) -> None:
    rows = tensor.numel() // tensor.shape[-1]
    values = events.take(rows * samples * tensor.element_size())
    noise = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
    scratch = topk(Call((noise, samples), {}, (), call.card))
    events.add(() if scratch is None else scratch.events)
    events.free(values)


RULES = {"aten.randperm": permutation, "aten.multinomial": multinomial}
