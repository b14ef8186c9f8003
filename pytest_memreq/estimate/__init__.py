"""How much, by formula: parameters x 20 bytes + activations x 4 bytes + alpha."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_memreq.resolving import resolver

# The formulas are loaded where they are asked for: every run of pytest loads this.
if TYPE_CHECKING:
    from pytest_memreq.bisection import Solution, solve
    from pytest_memreq.estimate.parallelism import Parallelism
    from pytest_memreq.estimate.transformer import Transformer
    from pytest_memreq.requirement import LayerRow, Requirement

__getattr__ = resolver(
    __name__,
    {
        "pytest_memreq.bisection": ("Solution", "solve"),
        "pytest_memreq.estimate.parallelism": ("Parallelism",),
        "pytest_memreq.estimate.transformer": ("Transformer",),
        "pytest_memreq.requirement": ("LayerRow", "Requirement"),
    },
)


def estimate(
    model: Any,
    *inputs: Any,
    optimizer: str = "adam",
    precision: str = "mixed",
    batch_size: int = 1,
    parallelism: Parallelism | None = None,
    keyword_inputs: Mapping[str, Any] | None = None,
    sequence_length: int | None = None,
    recompute: str = "none",
    task: str = "training",
) -> Requirement:
    """Bytes that each rank needs to train `model`, or to run it with `task="inference"`.

    `model` is an `nn.Module`, a parameter count such as `"175B"`, a `Transformer`, or a mapping of
    its fields or of a Hugging Face configuration. `optimizer` and `precision` are names of rows in
    docs/formulas.md, with options as `"sgd(momentum=0.9)"`. `batch_size` is of one rank and step.

    The layer table of a module is for one sample: what is counted over `inputs` is divided by their
    first dimension. Nothing is computed and the model stays as it is. Without `inputs`, or for a
    transformer without `sequence_length`, activations are not known. `recompute` ("none",
    "selective", "full") is for transformers. Raises MemreqError for what cannot be estimated.
    """
    from pytest_memreq.estimate.formula import requirement, setup_of
    from pytest_memreq.estimate.reading import read_model

    setup = setup_of(
        optimizer=optimizer,
        precision=precision,
        batch_size=batch_size,
        parallelism=parallelism,
        sequence_length=sequence_length,
        recompute=recompute,
        task=task,
    )
    return requirement(read_model(model, inputs, keyword_inputs or {}), setup)


__all__ = [
    "LayerRow",
    "Parallelism",
    "Requirement",
    "Solution",
    "Transformer",
    "estimate",
    "solve",
]
