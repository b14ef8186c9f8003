"""`memreq validate`: whether measuring gives the same figures every time, and simulating those."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pytest_memreq.cli import divergences
from pytest_memreq.cli.limits import CANNOT_TELL
from pytest_memreq.cli.steadiness import Machine, Steadiness, as_document, as_text
from pytest_memreq.errors import DeviceLostError, MemreqError
from pytest_memreq.measure.backends import Backend
from pytest_memreq.measure.meter import DeviceMeter
from pytest_memreq.measure.overhead import StepTime, Stopwatch, levels, own_peak
from pytest_memreq.measure.selftest import Outcome, Report, Workload, measure, measure_all
from pytest_memreq.reports.files import is_directory, write_whole
from pytest_memreq.requirement import Peak

STEADY, NOT_STEADY = 0, 1
EXIT_CODES = {True: STEADY, False: NOT_STEADY, None: CANNOT_TELL}
FEWEST = 2  # one measurement cannot differ
ALONE_SECONDS = 300  # for importing torch from a slow disk


def add_to(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its options."""
    parser.description = (
        "With --device, measure small workloads alone and in many orders, and show that the "
        "figures agree. With reports, hold what was simulated against what was measured. "
        "Exit codes: 0 they agree, 1 they do not, 2 there is no device, or nothing to compare."
    )
    divergences.add_to(parser)
    parser.add_argument("--device", action="store_true", help="the meter, on the device here")
    parser.add_argument(
        "--repeats", type=int, default=20, metavar="N", help="measurements of each (default: 20)"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write all figures there, JSON")
    parser.add_argument("--json", action="store_true", help="print JSON")
    # What this command runs as a process of its own: measure one workload once.
    parser.add_argument("--alone", metavar="NAME", help=argparse.SUPPRESS)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.reports and not arguments.device:
        return divergences.validate_reports(arguments)
    _check(arguments)
    from pytest_memreq.measure.backends.finding import find_backends  # imports torch
    from pytest_memreq.measure.workloads import WORKLOADS  # imports torch

    try:
        backends = find_backends()
    except MemreqError as error:
        return _cannot_tell(str(error))
    return validate(backends, WORKLOADS, in_own_process, arguments)


def _check(arguments: argparse.Namespace) -> None:
    if not arguments.device:
        raise MemreqError("validate needs --device, or reports of runs with --memreq=both")
    if arguments.reports or arguments.divergence is not None:
        raise MemreqError("validate takes --device or reports, not both")
    if arguments.repeats < FEWEST:
        raise MemreqError(f"--repeats {arguments.repeats}: it takes {FEWEST} or more to compare")
    output: Path | None = arguments.output
    if output is not None and not _takes_a_file(output):
        raise MemreqError(f"--output {output}: is not a file in a directory that is there")


def _takes_a_file(output: Path) -> bool:
    return not is_directory(output) and is_directory(output.absolute().parent)


def validate(
    backends: Sequence[Backend],
    workloads: Sequence[Workload],
    alone: Callable[[Workload], Outcome],
    arguments: argparse.Namespace,
) -> int:
    """Test, print and write; the exit code. `alone` measures in a process of its own."""
    if not backends:
        return _cannot_tell("no device to measure on")
    try:
        if arguments.alone is not None:
            return _measure_one(backends, workloads, arguments.alone)
        found = _tested(backends, workloads, alone, arguments.repeats)
    except DeviceLostError as error:
        return _cannot_tell(str(error))
    document = json.dumps(as_document(found), indent=2)
    print(document if arguments.json else "\n".join(as_text(found)))
    if arguments.output is not None:
        write_whole(arguments.output, document + "\n")
    return EXIT_CODES[found.is_steady]


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
        raise MemreqError(f"--alone {name}: there is no such workload")
    outcome = measure(DeviceMeter(backends), backends[0].device(), named[0])
    print(json.dumps(asdict(outcome)))
    return STEADY


def in_own_process(workload: Workload) -> Outcome:
    """Measure by this command in a new process, which imports torch and finds the device anew."""
    command = [sys.executable, "-m", "pytest_memreq", "validate", "--device", "--alone"]
    try:
        done = subprocess.run(  # noqa: S603  # this very command
            [*command, workload.name],
            capture_output=True,
            text=True,
            check=False,
            timeout=ALONE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return Outcome(failure=f"its process gave no answer in {ALONE_SECONDS} s")
    return outcome_of(done)


def outcome_of(done: subprocess.CompletedProcess[str]) -> Outcome:
    """What a process of its own printed, or that it did not."""
    if done.returncode != STEADY:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        return Outcome(failure=f"its process ended with {done.returncode} and said: {said}")
    answer = json.loads(done.stdout.splitlines()[-1])
    peak = answer["peak"] and Peak(**answer["peak"])
    return Outcome(peak=peak, failure=answer["failure"])


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
