"""What the words of a command line name: a model, its configuration, its inputs."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from pytest_memreq.errors import MemreqError
from pytest_memreq.estimate.model import Model
from pytest_memreq.estimate.reading import read_model
from pytest_memreq.estimate.transformer import Transformer
from pytest_memreq.reports.files import is_directory, read_whole

INPUT_FORMS = "1,3,224,224, for other than float32 1,1024:int64, for a keyword mask=1,1024:bool"
MAX_CONFIG_BYTES = 2**20

_SHAPE = re.compile(
    r"(?:([A-Za-z_]\w*)=)?([1-9][0-9]{0,11}(?:,[1-9][0-9]{0,11})*)(?::([a-z0-9_]+))?"
)


def load(target: str, shapes: Sequence[str]) -> Model | Transformer:
    """The model of a MODEL argument, run on inputs of the shapes if there are any."""
    path = Path(target)
    if path.suffix == ".json" or is_directory(path):
        _check_no_shapes(target, shapes, "read as a configuration; give --seq")
        return read_model(_configuration(path / "config.json" if is_directory(path) else path))
    if ":" in target:
        named = dict(_named_input(shape) for shape in shapes if "=" in shape)
        return read_model(_module(target), tuple(_inputs(shapes)), named)
    _check_no_shapes(target, shapes, "read as a parameter count")
    try:
        return read_model(target)
    except MemreqError as error:
        raise MemreqError(
            f"{error}; or, for a model, package.module:factory or a config.json"
        ) from None


def _check_no_shapes(target: str, shapes: Sequence[str], read_as: str) -> None:
    if shapes:
        raise MemreqError(f"--input is for a module; {target!r} is {read_as}")


def _configuration(path: Path) -> dict[str, Any]:
    try:
        read = json.loads(read_whole(path, MAX_CONFIG_BYTES))
    except (ValueError, RecursionError) as error:
        said = str(error) if isinstance(error, ValueError) else "nested too deep"
        raise MemreqError(f"{path} is not JSON: {said}") from None
    if not isinstance(read, dict):
        raise MemreqError(f"{path} holds a {type(read).__name__}, no configuration")
    return read


def _module(target: str) -> Any:
    """The model that `package.module:factory` names: an instance, or what the callable makes."""
    from pytest_memreq.estimate.layers import is_module  # imports torch
    from pytest_memreq.estimate.tracing import on_meta

    found = import_object(target, "model; write package.module:factory")
    try:
        model = found if is_module(found) or not callable(found) else on_meta(found)
    except (Exception, SystemExit) as error:  # the user's code runs here and may raise anything
        raise MemreqError(_why_no_model(target, error)) from error
    if not is_module(model):
        raise MemreqError(f"{target} gave a {type(model).__name__}; it must give an nn.Module")
    return model


def import_object(target: str, what: str) -> Any:
    """What `package.module:name` names. Raises MemreqError where it names nothing."""
    module_name, _, path = target.partition(":")
    if not module_name or not path:
        raise MemreqError(f"{target!r} names no {what}")
    # As `python -m` has it; a console script does not look in the working directory.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = import_module(module_name)
        for name in path.split("."):
            found = getattr(found, name)
    except (Exception, SystemExit) as error:  # the user's code runs here and may raise anything
        raise MemreqError(_why_no_model(target, error)) from error
    return found


def _why_no_model(target: str, error: BaseException) -> str:
    said = " ".join(str(error).split()) or "no message"
    is_path = isinstance(error, ImportError) and re.search(r"\.py:|/", target)
    hint = "; write package.module:name, as in an import" if is_path else ""
    return f"{target} could not be loaded: {type(error).__name__}: {said}{hint}"


def _inputs(shapes: Sequence[str]) -> list[Any]:
    return [_named_input(shape)[1] for shape in shapes if "=" not in shape]


def _named_input(shape: str) -> tuple[str, Any]:
    """A tensor of that shape without values, and the keyword it is for."""
    from pytest_memreq.estimate.layers import empty_input  # imports torch

    match = _SHAPE.fullmatch(shape.replace(" ", ""))
    if match is None:
        raise MemreqError(f"--input {shape!r} is not a shape; write {INPUT_FORMS}")
    sizes = [int(size) for size in match[2].split(",")]
    if math.prod(sizes) > 2**60:
        raise MemreqError(f"--input {shape!r} has more than 2^60 elements")
    try:
        return match[1] or "", empty_input(sizes, match[3] or "float32")
    except MemreqError as error:
        raise MemreqError(f"--input {shape!r} is not a shape: {error}") from None
