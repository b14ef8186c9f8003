"""Modules that move between the CPU and the pretended card."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import Module

from pytest_memreq.replacing import replaced

MADE_ANEW = (
    "a parameter that an autograd graph holds is made anew when its module is moved; what had it "
    "before, an optimizer or a tie, has the old one"
)


@contextmanager
def moves_as_between_cards(notes: dict[str, None]) -> Iterator[None]:
    """Within it, Module.to keeps the identity of parameters, as between CPU and CUDA.

    Between CPU and meta it does only if tensors are swapped. Tensors that others hold cannot be:
    those of torch.jit.script's modules are in C++, those of weight_norm in the graph of a weight.
    """
    apply: Callable[..., Any] = Module._apply

    def apply_or_make_anew(module: Module, fn: Callable[[Any], Any], recurse: bool = True) -> Any:
        try:
            return apply(module, fn, recurse)
        except RuntimeError as error:
            if "Couldn't swap" not in str(error):
                raise
            notes.setdefault(MADE_ANEW)
            with _swapping(False):
                return apply(module, fn, recurse)

    with _swapping(True), replaced([(Module, "_apply", apply_or_make_anew)]):
        yield


@contextmanager
def _swapping(swaps: bool) -> Iterator[None]:
    future = torch.__future__
    before = future.get_swap_module_params_on_conversion()
    future.set_swap_module_params_on_conversion(swaps)
    try:
        yield
    finally:
        future.set_swap_module_params_on_conversion(before)
