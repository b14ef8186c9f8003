"""What can be told of a model, from whatever stands for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_memreq.errors import MemreqError
from pytest_memreq.estimate.counts import COUNT_FORMS, parse_count
from pytest_memreq.estimate.families import NOTHING, transformer_of
from pytest_memreq.estimate.model import Model, Parameter
from pytest_memreq.estimate.transformer import Transformer


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
