"""The layer table of `estimate` beside `torchinfo.summary`: time and memory of one call.

`python -m benchmarks.layer_table`: each measurement is the better of two, each in a process of its
own in which the model is already made: seconds of the call, and by how much it raised the peak of
resident memory (ru_maxrss).
"""

import argparse
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.results import Benchmark, Run, markdown, resident_bytes, run
from example_project.models.gpt import GPT, gpt_3
from example_project.models.resnet import ResNet50, stage
from pytest_memreq import estimate

RUNS = 2


def resnet_152() -> nn.Module:
    """ResNet-50 with the stages of the deepest published one."""
    model = ResNet50()
    model.stages = nn.Sequential(
        stage(64, width=64, depth=3, stride=1),
        stage(256, width=128, depth=8, stride=2),
        stage(512, width=256, depth=36, stride=2),
        stage(1024, width=512, depth=3, stride=2),
    )
    return model


def gpt_2_xl() -> nn.Module:
    """48 blocks, 1600 wide."""
    return GPT(depth=48, width=1600, heads=25)


@dataclass(frozen=True)
class Case:
    """A model and an input of it."""

    model: Callable[[], nn.Module]
    input: Callable[[str], Tensor]


CASES = {
    "ResNet-152": Case(resnet_152, lambda device: torch.ones(1, 3, 224, 224, device=device)),
    "GPT-2 XL": Case(
        gpt_2_xl, lambda device: torch.ones(1, 1024, dtype=torch.int64, device=device)
    ),
}


def memreq_table(model: nn.Module, x: Tensor) -> int:
    """Rows of our table."""
    return len(estimate(model, x).layers)


def torchinfo_table(model: nn.Module, x: Tensor) -> int:
    """Rows of theirs, on the device that the model is on."""
    from torchinfo import summary

    return len(summary(model, input_data=[x], device=x.device, verbose=0).summary_list)


TOOLS = {"memreq": memreq_table, "torchinfo": torchinfo_table}


def measured(action: Callable[[], int]) -> dict[str, float]:
    """Seconds, growth of the peak, and what the action gave."""
    before, start = resident_bytes(), time.perf_counter()
    rows = action()
    return {
        "seconds": time.perf_counter() - start,
        "growth_bytes": resident_bytes() - before,
        "peak_bytes": resident_bytes(),
        "rows": rows,
    }


def table_once(name: str, tool: str, device: str) -> dict[str, float]:
    """One call of one tool."""
    case = CASES[name]
    with torch.device("meta"):
        model = case.model()
    if device == "cpu":
        model = model.to_empty(device="cpu")
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data.zero_()
    TOOLS[tool](nn.Linear(2, 2), torch.ones(1, 2))  # what is imported at the first call
    x = case.input(device)
    gc.collect()  # or one of torch's own objects falls into the measurement, or not
    return measured(lambda: TOOLS[tool](model, x))


def gpt_3_once() -> dict[str, float]:
    """GPT-3 made on meta and estimated; torch is imported already."""

    def action() -> int:
        with torch.device("meta"):
            model = gpt_3()
        return estimate(model).total_bytes

    return measured(action)


def best_of(*arguments: str) -> dict[str, float]:
    """The least of each figure over fresh processes."""
    command = [sys.executable, "-m", "benchmarks.layer_table", *arguments]
    runs = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(RUNS)
    ]
    return {figure: min(run[figure] for run in runs) for figure in runs[0]}


def compared() -> dict[str, Any]:
    """Every model with every tool, and GPT-3 with ours."""
    return {
        "tables": [
            {"model": name, "on": device, "tool": tool, **best_of("--once", name, tool, device)}
            for name in CASES
            for device in ("cpu", "meta")
            for tool in TOOLS
        ],
        "gpt_3": best_of("--gpt-3"),
    }


def tables(runs: Mapping[str, Run]) -> dict[str, str]:
    """Seconds and memory by model and tool."""
    (kept,) = runs.values()
    gpt = kept.found["gpt_3"]
    return {
        "about": kept.about,
        "compared": markdown(
            ("model", "weights on", "tool", "rows", "seconds", "growth of the peak, MiB"),
            [
                (
                    *(row["model"], row["on"], row["tool"], row["rows"]),
                    *(f"{row['seconds']:.3f}", f"{row['growth_bytes'] / 2**20:.1f}"),
                )
                for row in kept.found["tables"]
            ],
        ),
        "gpt_3": f"GPT-3 175B on meta, made and estimated: {gpt['seconds']:.2f} s, "
        f"{gpt['growth_bytes'] / 2**20:.0f} MiB, {gpt['peak_bytes'] / 2**20:.0f} MiB with torch.",
    }


BENCHMARK = Benchmark(name="layer_table", measure=compared, tables=tables, packages=("torchinfo",))


def main() -> None:
    """Compare, or measure once for a comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", nargs=3, metavar=("MODEL", "TOOL", "DEVICE"))
    parser.add_argument("--gpt-3", action="store_true")
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(table_once(*arguments.once)))
    elif arguments.gpt_3:
        print(json.dumps(gpt_3_once()))
    else:
        run(BENCHMARK)


if __name__ == "__main__":
    main()
