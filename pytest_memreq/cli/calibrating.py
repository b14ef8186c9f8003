"""`memreq validate --device --calibration FILE`: what simulations take from a card."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_memreq.cli.steadiness import Machine
from pytest_memreq.reports.files import write_whole
from pytest_memreq.simulate.calibration import Calibration, to_text
from pytest_memreq.simulate.cards import CARDS
from pytest_memreq.units import format_size

if TYPE_CHECKING:
    from pytest_memreq.measure.constants import Constants

# With one of these, a workspace is as it says, on any card.
SIZES_OF_WORKSPACES = ("CUBLAS_WORKSPACE_CONFIG", "CUBLASLT_WORKSPACE_SIZE")


def calibration_of(machine: Machine, constants: Constants) -> Calibration:
    """What was measured on that machine, in the form that simulations read."""
    return Calibration(
        gpu=machine.gpu,
        gpu_bytes=machine.gpu_bytes,
        torch=machine.torch,
        cuda=machine.cuda,
        driver=machine.driver,
        date=machine.date,
        context_bytes=constants.context.bytes or None,
        cublas_workspace_bytes=None if _is_set() else constants.workspace_bytes,
    )


def write(path: Path, machine: Machine, constants: Constants) -> Iterator[str]:
    """Write the file; lines on what is in it, and on what is not and why."""
    calibration = calibration_of(machine, constants)
    write_whole(path, to_text(calibration))
    yield f"{path}: calibration of {calibration}"
    yield f"context: {_told(calibration.context_bytes, constants.context.reason)}"
    why = f"{_is_set()} is set" if _is_set() else "a product took none from the allocator"
    yield f"cuBLAS workspace: {_told(calibration.cublas_workspace_bytes, why)}"
    if machine.gpu.casefold() not in map(str.casefold, CARDS):
        yield f"no simulation will use it: memreq gpus has no card named {machine.gpu!a}"


def _told(size_bytes: int | None, why: str) -> str:
    if size_bytes is None:
        return f"not known: {why or 'nothing was seen'}"
    return f"{format_size(size_bytes)} ({size_bytes:,} bytes)"


def _is_set() -> str:
    """The first variable that is set."""
    return next((name for name in SIZES_OF_WORKSPACES if os.environ.get(name)), "")
