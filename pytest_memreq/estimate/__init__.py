"""How much, by formula: parameters x 20 bytes + activations x 4 bytes + alpha."""

from __future__ import annotations

from typing import Any

from pytest_memreq.errors import MemreqError
from pytest_memreq.estimate.counts import COUNT_FORMS, parse_count
from pytest_memreq.estimate.formula import ModelCounts, requirement, setup_of
from pytest_memreq.requirement import LayerRow, Requirement


def estimate(
    model: Any,
    *inputs: Any,
    optimizer: str = "adam",
    precision: str = "mixed",
    batch_size: int = 1,
    parallelism: Any = None,
) -> Requirement:
    """Bytes needed to train `model`, an `nn.Module` or a parameter count such as `"175B"`.

    The layer table is for one sample: what is counted over `inputs` is divided by their first
    dimension, then multiplied by `batch_size`. Nothing is computed and the model stays as it is.
    Without `inputs` activations are not known. Raises MemreqError for what cannot be estimated.
    """
    setup = setup_of(optimizer=optimizer, precision=precision, batch_size=batch_size)
    if parallelism is not None:
        raise MemreqError(
            f"parallelism={parallelism!r}: only one device is estimated yet; leave it out"
        )
    return requirement(_counts_of(model, inputs), setup)


def _counts_of(model: Any, inputs: tuple[Any, ...]) -> ModelCounts:
    if isinstance(model, (int, str)):
        return _counted_parameters(model, inputs)
    from pytest_memreq.estimate.layers import count_module, is_module  # imports torch

    if not is_module(model):
        raise MemreqError(
            f"cannot estimate a {type(model).__name__}; give an nn.Module, or a parameter count "
            f"written {COUNT_FORMS}"
        )
    return count_module(model, inputs)


def _counted_parameters(count: int | str, inputs: tuple[Any, ...]) -> ModelCounts:
    parameters = parse_count(count)
    if inputs:
        raise MemreqError(
            f"inputs were given with the parameter count {count!r}, which has no layers; "
            "give an nn.Module, or no inputs"
        )
    return ModelCounts(parameters=parameters, trainable_parameters=parameters)


__all__ = ["LayerRow", "Requirement", "estimate"]
