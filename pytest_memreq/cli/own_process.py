"""What `memreq validate` has done in processes of their own: this command, with hidden options.

A process of its own has no history that a measurement could depend on; and a simulation, which
pretends a device, does not get in the way of the one that is there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pytest_memreq.errors import MemreqError
from pytest_memreq.measure.selftest import Outcome, Workload
from pytest_memreq.requirement import Peak

ALONE_SECONDS = 300  # for importing torch from a slow disk
DONE = 0


def measured_alone(workload: Workload) -> Outcome:
    """Measure in a new process, which imports torch and finds the device anew."""
    return outcome_of(_asked("--alone", workload.name))


def simulated_apart(workloads: Sequence[Workload], gpu: str) -> Mapping[str, Outcome]:
    """Simulate all of them in one new process, each on a card of its own."""
    return outcomes_of(_asked("--simulated", gpu), [workload.name for workload in workloads])


def simulate_here(workloads: Sequence[Workload], gpu: str) -> dict[str, Outcome]:
    """What that process does. Settings of the allocator and of cuBLAS are those of the device."""
    return {workload.name: _simulated(workload, gpu) for workload in workloads}


def outcome_of(done: subprocess.CompletedProcess[str] | None) -> Outcome:
    """What a process of its own printed, or that it did not."""
    why = _why_none(done)
    return Outcome(failure=why) if why or done is None else _outcome(_last_line(done))


def outcomes_of(
    done: subprocess.CompletedProcess[str] | None, names: Sequence[str]
) -> Mapping[str, Outcome]:
    """The same of one that printed all that have these names."""
    why = _why_none(done)
    if why or done is None:
        return dict.fromkeys(names, Outcome(failure=why))
    return {name: _outcome(each) for name, each in _last_line(done).items()}


def _simulated(workload: Workload, gpu: str) -> Outcome:
    from pytest_memreq.simulate import simulate
    from pytest_memreq.simulate.streams import DEVICE  # imports torch

    def step() -> None:
        try:
            workload.run(DEVICE)
        except workload.raises:
            return

    names = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
    allocator = next((os.environ[name] for name in names if os.environ.get(name)), None)
    workspaces = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    try:
        found = simulate(step, gpu=gpu, allocator=allocator, workspaces=workspaces)
    except (MemreqError, RuntimeError) as error:  # torch's own errors, a full card among them
        said = str(error).partition("\n")[0] or "no message"
        return Outcome(failure=f"{type(error).__name__}: {said}")
    return Outcome(peak=found.peak)


def _asked(option: str, value: str) -> subprocess.CompletedProcess[str] | None:
    """None where it took too long."""
    command = [sys.executable, "-m", "pytest_memreq", "validate", "--device", option, value]
    try:
        return subprocess.run(  # noqa: S603  # this very command
            command, capture_output=True, text=True, check=False, timeout=ALONE_SECONDS
        )
    except subprocess.TimeoutExpired:
        return None


def _why_none(done: subprocess.CompletedProcess[str] | None) -> str:
    """Why there is no answer, "" where there is one."""
    if done is None:
        return f"its process gave no answer in {ALONE_SECONDS} s"
    if done.returncode == DONE:
        return ""
    said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
    return f"its process ended with {done.returncode} and said: {said}"


def _last_line(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])  # libraries may greet first
    return answer


def _outcome(answer: Mapping[str, Any]) -> Outcome:
    return Outcome(peak=answer["peak"] and Peak(**answer["peak"]), failure=answer["failure"])


def as_answer(outcome: Outcome) -> dict[str, Any]:
    """What such a process prints, as one line of JSON."""
    return asdict(outcome)
