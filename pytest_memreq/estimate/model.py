"""What is estimated: a model's parameters by shape, and terms of bytes made of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pytest_memreq.requirement import LayerRow

Shape = tuple[int, ...]
Tier = Literal["device", "cpu", "nvme"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """`count` parameters of one shape.

    `element_bytes` is None for floating-point numbers, which the precision decides; packed weights
    of a quantized layer have a size of their own. Experts are spread over the ranks in a way of
    their own.
    """

    shape: Shape
    count: int = 1
    is_trainable: bool = True
    is_expert: bool = False
    element_bytes: int | None = None

    @property
    def elements(self) -> int:
        """Elements of all `count`."""
        return self.count * math.prod(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffers:
    """Buffers of a model: elements of floating-point ones, bytes at their own size."""

    floating_elements: int = 0
    floating_bytes: int = 0
    other_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A module or a bare count of parameters; None is what is not known.

    `activation_elements` are of one sample. Without shapes the parameters are one of as many
    elements.
    """

    parameters: tuple[Parameter, ...]
    has_shapes: bool = True
    buffers: Buffers | None = None
    activation_elements: int | None = None
    layers: tuple[LayerRow, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """Elements of one kind under a word of the breakdown, as one rank would hold them alone."""

    word: str
    elements: int
    element_bytes: int
    is_expert: bool = False
    tier: Tier = "device"

    @property
    def bytes(self) -> int:
        """Elements times their size."""
        return self.elements * self.element_bytes
