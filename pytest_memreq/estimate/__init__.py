"""How much, by formula: parameters x 20 bytes + activations x 4 bytes + alpha."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_memreq.bisection import Solution, solve
from pytest_memreq.errors import MemreqError
from pytest_memreq.estimate.counts import COUNT_FORMS, parse_count
from pytest_memreq.estimate.families import NOTHING, transformer_of
from pytest_memreq.estimate.formula import requirement, setup_of
from pytest_memreq.estimate.model import Model, Parameter
from pytest_memreq.estimate.parallelism import Parallelism
from pytest_memreq.estimate.transformer import Transformer
from pytest_memreq.requirement import LayerRow, Requirement


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


def read_model(
    model: Any, inputs: tuple[Any, ...] = (), keyword_inputs: Mapping[str, Any] = NOTHING
) -> Model | Transformer:
    """What can be told of a model once, whatever the setup: `requirement` is asked with it.

    Raises MemreqError for what is no model, and for inputs that it does not run on.
    """
    is_run = bool(inputs or keyword_inputs)
    if isinstance(model, Transformer | Mapping):
        _check_not_run(is_run, "a configuration", "sequence_length")
        return model if isinstance(model, Transformer) else transformer_of(model)
    if isinstance(model, (int, str)):
        parameters = (Parameter(shape=(parse_count(model),)),)
        _check_not_run(is_run, f"the parameter count {model!r}", "an nn.Module")
        return Model(parameters=parameters, has_shapes=False)
    return _module(model, inputs, keyword_inputs)


def _check_not_run(is_run: bool, what: str, instead: str) -> None:
    if is_run:
        raise MemreqError(f"inputs were given with {what}, which cannot run; give {instead}")


def _module(model: Any, inputs: tuple[Any, ...], keyword_inputs: Mapping[str, Any]) -> Model:
    from pytest_memreq.estimate.layers import count_module, is_module  # imports torch

    if not is_module(model):
        raise MemreqError(
            f"cannot estimate a {type(model).__name__}; give an nn.Module, a Transformer, or a "
            f"parameter count written {COUNT_FORMS}"
        )
    return count_module(model, inputs, keyword_inputs)


__all__ = [
    "LayerRow",
    "Parallelism",
    "Requirement",
    "Solution",
    "Transformer",
    "estimate",
    "solve",
]
