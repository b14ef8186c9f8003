"""How seconds and memory grow: of a simulation with layers, of the reports with tests.

`python -m benchmarks.growth` measures each size in a process of its own, the better of two, and
fits seconds = a x size^exponent, so that what is quadratic shows. Seconds are processor time.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from benchmarks.results import Benchmark, markdown, resident_bytes, run

RUNS = 2
LAYERS = (12, 24, 48, 96)
TESTS = (100, 300, 1_000, 3_000, 10_000)
SUITE = """
import pytest, torch

@pytest.mark.max_gpu_memory("1 GiB")
def test_step():
    model = torch.nn.Sequential(*[torch.nn.Linear(64, 64, device="cuda") for _ in range(8)])
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.zeros(32, 64, device="cuda")).sum().backward()
    optimizer.step()
"""


def gpt_steps(depth: int) -> None:
    """Two steps of a GPT of so many blocks, 1024 wide, batch 2 of 512 tokens, with AdamW."""
    from torch.nn.functional import cross_entropy

    from example_project.models.gpt import GPT

    with torch.device("cuda"):
        model = GPT(depth=depth, width=1024, heads=16)
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(2):
        tokens = torch.zeros(2, 513, dtype=torch.int64, device="cuda")
        logits = model(tokens[:, :-1])
        cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()


def simulation(layers: int) -> Callable[[], object]:
    """Simulating that; torch's parts that are imported late are there, and warm."""
    from pytest_memreq import simulate

    import_module("torch._dynamo")
    simulate(gpt_steps, 1)
    return partial(simulate, gpt_steps, layers)


def reports(tests: int) -> Callable[[], object]:
    """All reports of so many simulated tests, each as full as one that really ran."""
    from pytest_memreq.reports.files import write_reports
    from pytest_memreq.reports.reading import read_results

    directory = Path(tempfile.mkdtemp())
    (directory / "test_it.py").write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "-q", "--memreq=simulate", "--memreq-report"]
    subprocess.run(command, cwd=directory, check=True, capture_output=True)
    results = read_results(directory / "memreq-report" / "memreq.json")
    (test,) = results.tests
    many = tuple(replace(test, nodeid=f"test_it.py::test_{at:05}") for at in range(tests))
    return partial(write_reports, directory / "many", replace(results, tests=many))


WORKS = {"simulation": simulation, "reports": reports}


def once(work: str, size: int) -> dict[str, float]:
    """Processor seconds, and growth of the peak of resident memory in bytes, in this process."""
    action = WORKS[work](size)
    before, start = resident_bytes(), time.process_time()
    action()
    return {
        "seconds": time.process_time() - start,
        "growth_bytes": resident_bytes() - before,
    }


def best(work: str, size: int) -> dict[str, float]:
    """The least of each figure over fresh processes."""
    command = [sys.executable, "-m", "benchmarks.growth", "--once", work, str(size)]
    runs = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(RUNS)
    ]
    return {figure: min(each[figure] for each in runs) for figure in runs[0]}


def measure() -> Any:
    """Every size of every work."""
    sizes = {"simulation": LAYERS, "reports": TESTS}
    return {work: {size: best(work, size) for size in sizes[work]} for work in WORKS}


def exponent(points: dict[str, dict[str, float]], figure: str) -> float:
    """The least squares' slope of the logarithms: 1 is linear, 2 quadratic."""
    logs = [(math.log(int(size)), math.log(max(row[figure], 1e-9))) for size, row in points.items()]
    middle = [sum(axis) / len(logs) for axis in zip(*logs, strict=True)]
    above = sum((x - middle[0]) * (y - middle[1]) for x, y in logs)
    return above / sum((x - middle[0]) ** 2 for x, _ in logs)


def tables(runs: Any) -> dict[str, str]:
    """A table a work, and how it grows."""
    (kept,) = runs.values()
    texts = {"about": kept.about}
    for work, unit in {"simulation": "layers", "reports": "tests"}.items():
        points = kept.found[work]
        rows = [
            (f"{int(size):,}", f"{row['seconds']:.2f}", f"{row['growth_bytes'] / 2**20:.0f}")
            for size, row in points.items()
        ]
        texts[work] = markdown((unit, "seconds", "growth of the peak, MiB"), rows)
        grown = ", ".join(
            f"{name} grow as {unit} to the power of {exponent(points, figure):.2f}"
            for name, figure in (("seconds", "seconds"), ("bytes", "growth_bytes"))
        )
        texts[f"{work}_exponent"] = f"Over all sizes {grown}."
    return texts


BENCHMARK = Benchmark(name="growth", measure=measure, tables=tables)


def main() -> None:
    """All, or one size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", nargs=2, metavar=("WORK", "SIZE"))
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(once(arguments.once[0], int(arguments.once[1]))))
    else:
        run(BENCHMARK)


if __name__ == "__main__":
    main()
