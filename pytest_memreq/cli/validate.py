"""`memreq validate`: whether measuring gives the same figures every time, and simulating those."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_memreq.cli import accuracy, calibrating, divergences
from pytest_memreq.cli.accuracy import Accuracy, accuracy_of
from pytest_memreq.cli.limits import CANNOT_TELL
from pytest_memreq.cli.own_process import (
    as_answer,
    measured_alone,
    simulate_here,
    simulated_apart,
)
from pytest_memreq.cli.steadiness import VERDICTS, Machine, Steadiness, as_document, as_text
from pytest_memreq.errors import DeviceLostError, MemreqError
from pytest_memreq.gate.divergence import BOUND
from pytest_memreq.gate.tolerance import Tolerance, parse_tolerance
from pytest_memreq.measure.backends import Backend
from pytest_memreq.measure.meter import DeviceMeter
from pytest_memreq.measure.overhead import StepTime, Stopwatch, levels, own_peak
from pytest_memreq.measure.selftest import Outcome, Report, Workload, measure, measure_all
from pytest_memreq.reports.files import is_directory, write_whole
from pytest_memreq.simulate.cards import find_card, nearest_card

if TYPE_CHECKING:
    from pytest_memreq.measure.constants import Constants, Product

STEADY, NOT_STEADY = 0, 1
EXIT_CODES = {True: STEADY, False: NOT_STEADY, None: CANNOT_TELL}
FEWEST = 2  # one measurement cannot differ


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """What has a process of its own: measuring one workload, simulating all on a card."""

    measured: Callable[[Workload], Outcome] = measured_alone
    simulated: Callable[[Sequence[Workload], str], Mapping[str, Outcome]] = simulated_apart


def add_to(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its options."""
    parser.description = (
        "With --device, measure small workloads alone and in many orders, show that the "
        "figures agree, and how far simulations of them are from that. With reports, hold what was "
        "simulated against what was measured. "
        "Exit codes: 0 they agree, 1 they do not, 2 there is no device, or nothing to compare. "
        "With --device, simulations count only with --divergence."
    )
    divergences.add_to(parser)
    parser.add_argument("--device", action="store_true", help="the meter, on the device here")
    parser.add_argument(
        "--repeats", type=int, default=20, metavar="N", help="measurements of each (default: 20)"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write all figures there, JSON")
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="write the card's context and workspaces there, for pytest --memreq-calibration",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    # What this command runs as processes of their own: measure one workload once, simulate all.
    parser.add_argument("--alone", metavar="NAME", help=argparse.SUPPRESS)
    parser.add_argument("--simulated", metavar="GPU", help=argparse.SUPPRESS)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.reports and not arguments.device:
        return divergences.validate_reports(arguments)
    _check(arguments)
    from pytest_memreq.measure.backends.finding import find_backends  # imports torch
    from pytest_memreq.measure.workloads import WORKLOADS  # imports torch

    if arguments.simulated is not None:
        return _simulate_all(WORKLOADS, arguments.simulated)
    try:
        backends = find_backends()
    except MemreqError as error:
        return _cannot_tell(str(error))
    return validate(backends, WORKLOADS, Apart(), arguments)


def _check(arguments: argparse.Namespace) -> None:
    if not arguments.device:
        raise MemreqError("validate needs --device, or reports of runs with --memreq=both")
    if arguments.reports:
        raise MemreqError("validate takes --device or reports, not both")
    _bound(arguments)
    if arguments.repeats < FEWEST:
        raise MemreqError(f"--repeats {arguments.repeats}: it takes {FEWEST} or more to compare")
    for option in ("output", "calibration"):
        path: Path | None = getattr(arguments, option)
        if path is not None and not _takes_a_file(path):
            raise MemreqError(f"--{option} {path}: is not a file in a directory that is there")


def _bound(arguments: argparse.Namespace) -> Tolerance:
    said: str | None = arguments.divergence
    return BOUND if said is None else parse_tolerance(said, "--divergence")


def _takes_a_file(output: Path) -> bool:
    return not is_directory(output) and is_directory(output.absolute().parent)


def validate(
    backends: Sequence[Backend],
    workloads: Sequence[Workload],
    apart: Apart,
    arguments: argparse.Namespace,
    multiplying: Product | None = None,
) -> int:
    """Test, print and write; the exit code. `multiplying` is a product of two matrices."""
    if not backends:
        return _cannot_tell("no device to measure on")
    try:
        if arguments.alone is not None:
            return _measure_one(backends, workloads, arguments.alone)
        known = _constants(backends, multiplying) if arguments.calibration else None
        found = _tested(backends, workloads, apart.measured, arguments.repeats)
    except DeviceLostError as error:
        return _cannot_tell(str(error))
    errors = _compared(found, backends[0], workloads, apart, _bound(arguments))
    document = json.dumps(
        {**as_document(found), "simulation": accuracy.as_document(errors)}, indent=2
    )
    print(document if arguments.json else "\n".join(_lines(found, errors)))
    if arguments.output is not None:
        write_whole(arguments.output, document + "\n")
    if known is not None:
        for line in calibrating.write(arguments.calibration, found.machine, known):
            _say(line)
    return _exit_code(found, errors, is_bound=arguments.divergence is not None)


def _exit_code(found: Steadiness, errors: Accuracy, *, is_bound: bool) -> int:
    """Simulations decide only where a bound for them was given."""
    if found.is_steady is not True or not is_bound:
        return EXIT_CODES[found.is_steady]
    return EXIT_CODES[errors.holds]


def _lines(found: Steadiness, errors: Accuracy) -> Iterator[str]:
    yield from as_text(found)
    yield ""
    yield from accuracy.as_text(errors)
    yield ""
    yield VERDICTS[found.is_steady]


def _constants(backends: Sequence[Backend], multiplying: Product | None) -> Constants:
    from pytest_memreq.measure.constants import constants, product  # imports torch

    _say("context and workspaces")
    return constants(DeviceMeter(backends), backends[0], multiplying or product)


def _compared(
    found: Steadiness,
    backend: Backend,
    workloads: Sequence[Workload],
    apart: Apart,
    bound: Tolerance,
) -> Accuracy:
    gpu = found.machine.gpu
    card = nearest_card(gpu, backend.compute_capability(), found.machine.gpu_bytes)
    if card is None:
        why = f"no known card is like {gpu}"
        return Accuracy(measured_on=gpu, simulated_on=None, bound=bound, reason=why)
    _say(f"all workloads: simulated on {card.name}, in a process of its own")
    return accuracy_of(
        found.reports,
        apart.simulated(_without_trouble(found.reports, workloads), card.name),
        measured_on=gpu,
        simulated_on=card.name,
        bound=bound,
    )


def _simulate_all(workloads: Sequence[Workload], gpu: str) -> int:
    outcomes = simulate_here(workloads, find_card(gpu).name)
    print(json.dumps({name: as_answer(outcome) for name, outcome in outcomes.items()}))
    return STEADY


def _tested(
    backends: Sequence[Backend],
    workloads: Sequence[Workload],
    alone: Callable[[Workload], Outcome],
    repeats: int,
) -> Steadiness:
    meter, first = DeviceMeter(backends), backends[0]
    before = levels(meter, backends)
    reports = measure_all(meter, first.device(), workloads, alone=alone, repeats=repeats, say=_say)
    return Steadiness(
        machine=_machine(first),
        repeats=repeats,
        reports=reports,
        times=tuple(
            _timed(Stopwatch(meter, first, workload), workload.name)
            for workload in _without_trouble(reports, workloads)
        ),
        own=own_peak(meter, first.device()),
        before=before,
        after=levels(meter, backends),
    )


def _timed(stopwatch: Stopwatch, name: str) -> StepTime:
    _say(f"{name}: timing with and without the meter")
    return stopwatch.step_time()


def _without_trouble(reports: Sequence[Report], workloads: Sequence[Workload]) -> list[Workload]:
    sound = {report.name for report in reports if not report.failures and not report.skipped}
    return [workload for workload in workloads if workload.name in sound]


def _measure_one(backends: Sequence[Backend], workloads: Sequence[Workload], name: str) -> int:
    named = [workload for workload in workloads if workload.name == name]
    if not named:
        known = ", ".join(workload.name for workload in workloads)
        raise MemreqError(f"--alone {name}: there is no such workload; there are {known}")
    outcome = measure(DeviceMeter(backends), backends[0].device(), named[0])
    print(json.dumps(as_answer(outcome)))
    return STEADY


def _machine(backend: Backend) -> Machine:
    from pytest_memreq.measure.versions import torch_versions  # imports torch

    torch, cuda = torch_versions()
    return Machine(
        gpu=backend.card_name(),
        gpu_bytes=backend.capacity_bytes(),
        driver=_driver_version(),
        torch=torch,
        cuda=cuda,
        python=platform.python_version(),
        allocator=os.environ.get("PYTORCH_ALLOC_CONF", os.environ.get("PYTORCH_CUDA_ALLOC_CONF")),
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _driver_version() -> str | None:
    """As NVML has it, by the optional package `nvidia-ml-py`; None where it is not to be had."""
    try:
        nvml: Any = importlib.import_module("pynvml")  # has no types
    except ModuleNotFoundError:
        return None
    try:
        nvml.nvmlInit()
        return str(nvml.nvmlSystemGetDriverVersion())
    except nvml.NVMLError:
        return None


def _cannot_tell(why: str) -> int:
    print(f"memreq: cannot tell: {why}", file=sys.stderr)
    return CANNOT_TELL


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
