"""The command `memreq`. Exit codes: 0 fits, 1 does not fit, 2 cannot tell, 4 usage."""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from pytest_memreq.errors import MemreqError
from pytest_memreq.estimate import estimate
from pytest_memreq.requirement import LayerRow, Requirement
from pytest_memreq.simulate.cards import CARDS, Card, find_card
from pytest_memreq.units import format_limit, format_size, parse_limit

FITS, DOES_NOT_FIT, CANNOT_TELL, USAGE = 0, 1, 2, 4
INPUT_FORMS = "1,3,224,224 or, for other than float32, 1,1024:int64"

_SHAPE = re.compile(r"([1-9][0-9]{0,11}(?:,[1-9][0-9]{0,11})*)(?::([a-z0-9_]+))?")


def main(argv: list[str] | None = None) -> int:
    """Run the command on `argv`, or on the process's arguments, and return its exit code."""
    try:
        arguments = _parser().parse_args(argv)
        code: int = arguments.run(arguments)
    except MemreqError as error:
        print(f"memreq: {error}", file=sys.stderr)
        return USAGE
    return code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise MemreqError: argparse itself would leave with 2, which means "cannot tell"."""
        raise MemreqError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="memreq", description="Budgets for GPU memory.", allow_abbrev=False)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_estimate(commands.add_parser("estimate", help="what training a model needs, by formula"))
    gpus = commands.add_parser("gpus", help="the cards that are known")
    gpus.set_defaults(run=_run_gpus)
    return parser


def _add_estimate(parser: argparse.ArgumentParser) -> None:
    parser.description = "What training a model needs with Adam in mixed precision, by formula."
    parser.add_argument(
        "model", metavar="MODEL", help="package.module:factory, or a parameter count like 175B"
    )
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="SHAPE",
        help=f"shape of an input of the model, batch first: {INPUT_FORMS} (repeatable)",
    )
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="samples a step")
    parser.add_argument("--budget", metavar="SIZE", help='such as "24 GiB"; with --gpu also "80%%"')
    parser.add_argument("--gpu", metavar="NAME", help='a card it must fit on, such as "A10G"')
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.set_defaults(run=_run_estimate)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fit:
    """A requirement held against one limit; `fits` is None where it cannot be told."""

    limit: str
    limit_bytes: int
    spare_bytes: int
    fits: bool | None


def _run_estimate(arguments: argparse.Namespace) -> int:
    limits = _limits(arguments.budget, arguments.gpu)
    needed = _estimated(arguments.model, arguments.input, arguments.batch_size)
    fits = [_fit(needed, name, size_bytes) for name, size_bytes in limits]
    lines = _as_json(needed, fits) if arguments.json else _as_text(needed, fits)
    print("\n".join(lines))
    return _exit_code(fits)


def _limits(budget: str | None, gpu: str | None) -> list[tuple[str, int]]:
    """(name, bytes) of what was asked for."""
    card = None if gpu is None else find_card(gpu)
    limits = [] if card is None else [(card.name, card.capacity_bytes)]
    if budget is not None:
        limit = parse_limit(budget)
        name = f"the budget of {format_limit(limit)}"
        limits.append((name, limit if isinstance(limit, int) else _share(limit, card)))
    return limits


def _share(share: float, card: Card | None) -> int:
    if card is None:
        raise MemreqError(f"--budget {format_limit(share)} is a share of a card; say which, --gpu")
    return int(card.capacity_bytes * share)


def _fit(needed: Requirement, name: str, limit_bytes: int) -> _Fit:
    spare_bytes = limit_bytes - needed.total_bytes
    # What is known is a lower bound: it may exceed a limit, but without activations not fit one.
    is_known = needed.breakdown.activations_bytes is not None
    fits = False if spare_bytes < 0 else True if is_known else None
    return _Fit(limit=name, limit_bytes=limit_bytes, spare_bytes=spare_bytes, fits=fits)


def _exit_code(fits: Sequence[_Fit]) -> int:
    outcomes = [fit.fits for fit in fits]
    if False in outcomes:
        return DOES_NOT_FIT
    return CANNOT_TELL if None in outcomes else FITS


def _estimated(target: str, shapes: Sequence[str], batch_size: int) -> Requirement:
    if ":" not in target:
        if shapes:
            raise MemreqError(f"--input is for a model; {target!r} is read as a parameter count")
        try:
            return estimate(target, batch_size=batch_size)
        except MemreqError as error:
            raise MemreqError(f"{error}; or, for a model, package.module:factory") from None
    return estimate(_model(target), *map(_input, shapes), batch_size=batch_size)


def _model(target: str) -> Any:
    """The model that `package.module:factory` names: an instance, or what the callable makes."""
    from pytest_memreq.estimate.layers import is_module  # imports torch

    module_name, _, path = target.partition(":")
    if not module_name or not path:
        raise MemreqError(f"{target!r} names no model; write package.module:factory")
    # As `python -m` has it; a console script does not look in the working directory.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = import_module(module_name)
        for name in path.split("."):
            found = getattr(found, name)
        model = found if is_module(found) else found()
    except (Exception, SystemExit) as error:  # the user's code runs here and may raise anything
        raise MemreqError(_why_no_model(target, error)) from error
    if not is_module(model):
        raise MemreqError(f"{target} gave a {type(model).__name__}; it must give an nn.Module")
    return model


def _why_no_model(target: str, error: BaseException) -> str:
    said = " ".join(str(error).split()) or "no message"
    return f"{target} could not be loaded: {type(error).__name__}: {said}"


def _input(shape: str) -> Any:
    """A tensor of that shape without values."""
    from pytest_memreq.estimate.layers import empty_input  # imports torch

    match = _SHAPE.fullmatch(shape.replace(" ", ""))
    if match is None:
        raise MemreqError(f"--input {shape!r} is not a shape; write {INPUT_FORMS}")
    sizes = [int(size) for size in match[1].split(",")]
    if math.prod(sizes) > 2**60:
        raise MemreqError(f"--input {shape!r} has more than 2^60 elements")
    try:
        return empty_input(sizes, match[2] or "float32")
    except MemreqError as error:
        raise MemreqError(f"--input {shape!r} is not a shape: {error}") from None


def _as_json(needed: Requirement, fits: Sequence[_Fit]) -> list[str]:
    breakdown = {f"{word}_bytes": size for word, size in needed.breakdown.items()}
    layers = [
        {**asdict(row), "parameter_elements": row.parameter_elements} for row in needed.layers
    ]
    document = {
        "format": 1,
        "total_bytes": needed.total_bytes,
        "breakdown": breakdown,
        "layers": layers,
        "fits": [asdict(fit) for fit in fits],
    }
    return [json.dumps(document, indent=1)]


def _as_text(needed: Requirement, fits: Sequence[_Fit]) -> list[str]:
    table = [*_layer_table(needed.layers), ""] if needed.layers else []
    return [*table, *_sum(needed), *map(_said, fits)]


def _layer_table(layers: Sequence[LayerRow]) -> list[str]:
    head = ["Layer", "Kind", "Output", "Activations", "Weights", "Biases", "Parameters"]
    rows = [_cells(row.name, row.kind, _shape_text(row), [row]) for row in layers]
    return _aligned([head, *rows, _cells("Total", "", "", layers)], numbers=range(3, 7))


def _shape_text(row: LayerRow) -> str:
    return "x".join(map(str, row.output_shape))


def _cells(name: str, kind: str, shape: str, rows: Sequence[LayerRow]) -> list[str]:
    numbers = (
        sum(row.activation_elements for row in rows),
        sum(row.weight_elements for row in rows),
        sum(row.bias_elements for row in rows),
        sum(row.parameter_elements for row in rows),
    )
    return [name, kind, shape, *(f"{number:,}" for number in numbers)]


def _sum(needed: Requirement) -> list[str]:
    known = [(word, size) for word, size in needed.breakdown.items() if size is not None]
    unknown = [word for word, size in needed.breakdown.items() if size is None]
    rows = [[word, f"{size:,} B", format_size(size)] for word, size in known]
    total = ["total", f"{needed.total_bytes:,} B", format_size(needed.total_bytes)]
    return [
        *_aligned([*rows, total], numbers=range(1, 3)),
        f"not known, to be added: {', '.join(unknown)}",
    ]


def _said(fit: _Fit) -> str:
    spare = format_size(abs(fit.spare_bytes))
    if fit.fits is None:
        return (
            f"cannot tell whether it fits {fit.limit}: {spare} are left for activations, "
            "which only a model with --input tells"
        )
    return f"fits {fit.limit}: {spare} to spare" if fit.fits else f"exceeds {fit.limit} by {spare}"


def _run_gpus(_: argparse.Namespace) -> int:
    head = ["Name", "Capacity", "Bytes", "Compute capability", "Multiprocessors", "Source"]
    print("\n".join(_aligned([head, *map(_card_cells, CARDS.values())], numbers=range(1, 5))))
    return FITS


def _card_cells(card: Card) -> list[str]:
    return [
        card.name,
        format_size(card.capacity_bytes),
        f"{card.capacity_bytes:,}",
        "{}.{}".format(*card.compute_capability),
        str(card.multiprocessors),
        card.source,
    ]


def _aligned(rows: Sequence[Sequence[str]], numbers: range) -> list[str]:
    """Columns two blanks apart, those of `numbers` to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    signs = [">" if at in numbers else "<" for at in range(len(widths))]
    return [
        "  ".join(
            f"{cell:{sign}{width}}" for cell, sign, width in zip(row, signs, widths, strict=True)
        ).rstrip()
        for row in rows
    ]
