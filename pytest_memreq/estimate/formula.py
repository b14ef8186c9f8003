"""The founding formula as tables of bytes, and the sum over a model's counts.

Derived, with an example and the errata of its source, in docs/formulas.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from pytest_memreq.errors import MemreqError
from pytest_memreq.requirement import Breakdown, LayerRow, Requirement

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """Bytes an element of each term; `copies` are held beside the optimizer's own states."""

    parameter_bytes: int
    gradient_bytes: int
    activation_bytes: int
    state_bytes: int
    copies: tuple[str, ...]


# Mixed: the passes use half precision, 2 bytes; the optimizer works on single-precision copies of
# parameter and gradient, 4 bytes. Source: the founding formula; the 16 bytes of optimizer states
# with Adam are (2 copies + 2 states) x 4.
PRECISIONS: dict[str, Precision] = {
    "mixed": Precision(
        parameter_bytes=2,
        gradient_bytes=2,
        activation_bytes=4,
        state_bytes=4,
        copies=("parameter", "gradient"),
    ),
}

# What an optimizer keeps of each trainable parameter. AdamW decays weights without more states.
OPTIMIZERS: dict[str, tuple[str, ...]] = {
    "adam": ("momentum", "variance"),
    "adamw": ("momentum", "variance"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How a model is trained: rows of the tables, and samples a step."""

    precision: Precision
    states: tuple[str, ...]
    batch_size: int

    @property
    def optimizer_bytes(self) -> int:
        """Bytes of optimizer states for each trainable parameter."""
        return (len(self.precision.copies) + len(self.states)) * self.precision.state_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCounts:
    """Elements of a model, buffers in bytes; `activations` are of one sample, None: not known."""

    parameters: int
    trainable_parameters: int
    buffers_bytes: int | None = None
    activations: int | None = None
    layers: tuple[LayerRow, ...] = ()


def setup_of(*, optimizer: str, precision: str, batch_size: int) -> Setup:
    """The setup of those names; MemreqError names what is known instead."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise MemreqError(f"batch_size={batch_size!r} is not a whole number above 0")
    return Setup(
        precision=_row(PRECISIONS, "precision", precision),
        states=_row(OPTIMIZERS, "optimizer", optimizer),
        batch_size=batch_size,
    )


def requirement(counts: ModelCounts, setup: Setup) -> Requirement:
    """The formula. A frozen parameter has neither gradient nor optimizer states."""
    precision = setup.precision
    activations = counts.activations
    return Requirement(
        breakdown=Breakdown(
            parameters_bytes=counts.parameters * precision.parameter_bytes,
            gradients_bytes=counts.trainable_parameters * precision.gradient_bytes,
            optimizer_states_bytes=counts.trainable_parameters * setup.optimizer_bytes,
            activations_bytes=None
            if activations is None
            else activations * setup.batch_size * precision.activation_bytes,
            buffers_bytes=counts.buffers_bytes,
            # The formula counts the input among the activations.
            inputs_bytes=None if activations is None else 0,
        ),
        layers=counts.layers,
    )


def _row(table: Mapping[str, Row], what: str, name: str) -> Row:
    if not isinstance(name, str) or name not in table:
        known = " or ".join(repr(row) for row in table)
        raise MemreqError(f"{what}={name!r} is not known yet; write {known}")
    return table[name]
