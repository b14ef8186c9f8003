"""What our tools and others' say that training a model needs, and what saying it costs.

`python -m benchmarks.peers`: two AdamW steps of the models of `peer_models`, beside the peak that
a CUDA build of torch recorded. Each answer comes from a process of its own: seconds of the answer
with torch imported and the model made where the tool is given one, and by how much it raised the
peak of resident memory; the better of two. The overhead of a suite is in `overhead`.
"""

import argparse
import contextlib
import gc
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch

from benchmarks.errors import percent
from benchmarks.peer_models import RECORDED, WORKS, made, train
from benchmarks.results import Benchmark, markdown, resident_bytes, run

RUNS = 2
LONG_SECONDS = 5.0
TIMEOUT_SECONDS = 240


def nothing(_: str) -> None:
    """For tools that make the model themselves."""


@dataclass(frozen=True)
class Tool:
    """`prepare` makes what `answer` is asked with; `leaves_out` is what the tool does not count."""

    answer: Callable[[str, Any], int]
    prepare: Callable[[str], Any] = nothing
    leaves_out: str = "-"


def on_meta(name: str) -> torch.nn.Module:
    """The model, without values."""
    return made(name, "meta")


def on_meta_in_float32(name: str) -> torch.nn.Module:
    """As `accelerate estimate-memory` loads it, whatever the precision that is asked for."""
    return on_meta(name).float()


def without_values(name: str) -> torch.nn.Module:
    """On the CPU, where no page is written: DeepSpeed tells parameters apart by their addresses."""
    return on_meta(name).to_empty(device="cpu")


def memreq_simulate(name: str, _: None) -> int:
    """Peak of allocated."""
    from pytest_memreq import simulate

    return simulate(train, name, "cuda").peak.allocated_bytes


def memreq_estimate(name: str, model: torch.nn.Module) -> int:
    """The formula, with activations counted over the model's layers."""
    from pytest_memreq import estimate

    batch = WORKS[name].batch("meta")
    precision = "fp32" if WORKS[name].dtype is torch.float32 else "bf16"
    found = estimate(
        model, batch[:1], optimizer="adamw", precision=precision, batch_size=len(batch)
    )
    return found.total_bytes


def mem_tracker(name: str, _: None) -> int:
    """torch's own, on fake tensors of the CPU."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.mem_tracker import MemTracker

    with FakeTensorMode(), (tracker := MemTracker()):
        train(name, "cpu", tracker.reset_mod_stats)
    return int(next(iter(tracker.get_tracker_snapshot("peak").values()))["Total"])


def torchinfo_size(name: str, model: torch.nn.Module) -> int:
    """`Estimated Total Size`: input, forward/backward pass, parameters."""
    from torchinfo import summary

    found = summary(model, input_data=[WORKS[name].batch("meta")], device="meta", verbose=0)
    return int(found.total_input + found.total_output_bytes + found.total_param_bytes)


def accelerate_estimate(name: str, model: torch.nn.Module) -> int:
    """`accelerate estimate-memory`, its column of training with Adam."""
    from accelerate.commands.estimate import estimate_training_usage
    from accelerate.utils import calculate_maximum_sizes

    size, _ = calculate_maximum_sizes(model)
    dtype = "float32" if WORKS[name].dtype is torch.float32 else "bfloat16"
    return int(max(estimate_training_usage(int(size), dtype).values()))


def deepspeed_states(name: str, model: torch.nn.Module) -> int:
    """`estimate_zero3_model_states_mem_needs` of one card, nothing offloaded."""
    from deepspeed.runtime.zero.stage3 import (
        estimate_zero3_model_states_mem_needs,
        model_to_params,
    )

    total, largest = model_to_params(model)
    return int(estimate_zero3_model_states_mem_needs(total, largest, 1, 1, False, False)[1])


TOOLS = {
    "memreq simulate": Tool(memreq_simulate),
    "memreq estimate": Tool(memreq_estimate, on_meta, "temporaries, workspaces"),
    "torch MemTracker": Tool(mem_tracker, leaves_out="CUDA's kernels, rounding, workspaces"),
    "torchinfo": Tool(torchinfo_size, on_meta, "gradients, optimizer"),
    "accelerate estimate-memory": Tool(accelerate_estimate, on_meta_in_float32, "activations"),
    "DeepSpeed ZeRO-3 estimator": Tool(deepspeed_states, without_values, "activations"),
}


def asked(tool: str, name: str) -> dict[str, float]:
    """One answer in this process."""
    import_module("torch._dynamo")  # late, or it would be measured with the tool

    given = TOOLS[tool].prepare(name)
    gc.collect()
    before, start = resident_bytes(), time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        answer_bytes = TOOLS[tool].answer(name, given)
    seconds = time.perf_counter() - start
    return {
        "answer_bytes": answer_bytes,
        "seconds": seconds,
        "growth_bytes": resident_bytes() - before,
    }


def best(tool: str, name: str) -> dict[str, Any]:
    """The least of each figure over fresh processes, or what went wrong, in a line.

    What takes long is asked once: the start of a process is little beside it.
    """
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.peers", "--ask", tool, name]
    runs = []
    for _ in range(RUNS):
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"no answer within {TIMEOUT_SECONDS} s"}
        if done.returncode:
            return {"failed": done.stderr.strip().splitlines()[-1][:120]}
        runs.append(json.loads(done.stdout.strip().splitlines()[-1]))
        if runs[-1]["seconds"] > LONG_SECONDS:
            break
    return {figure: min(each[figure] for each in runs) for figure in runs[0]}


def measure() -> Any:
    """Every tool about every model."""
    return {name: {tool: best(tool, name) for tool in TOOLS} for name in WORKS}


def tables(runs: Any) -> dict[str, str]:
    """Answers beside the recorded peak, and their cost."""
    (kept,) = runs.values()
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))["allocated_bytes"]
    rows = [(n, tool, row) for n, answers in kept.found.items() for tool, row in answers.items()]
    return {
        "about": kept.about,
        "answers": markdown(
            (
                "two AdamW steps of",
                "recorded peak, bytes",
                "tool",
                "its answer",
                "error",
                "leaves out",
            ),
            [
                (
                    f"{name}, {WORKS[name].what}",
                    f"{recorded[name]:,}" if name in recorded else "not known without a card",
                    tool,
                    *answer(row, recorded.get(name)),
                    TOOLS[tool].leaves_out,
                )
                for name, tool, row in rows
            ],
        ),
        "cost": markdown(
            ("model", "tool", "seconds", "growth of the peak, MiB"),
            [
                (name, tool, f"{row['seconds']:.2f}", f"{row['growth_bytes'] / 2**20:.0f}")
                for name, tool, row in rows
                if "seconds" in row
            ],
        ),
    }


def answer(row: dict[str, Any], true_bytes: int | None) -> tuple[str, str]:
    """What was said, and how far off it is."""
    if "failed" in row:
        return f"failed: {row['failed']}".replace("|", "/"), "-"
    error = percent(row["answer_bytes"] / true_bytes - 1) if true_bytes else "-"
    return f"{row['answer_bytes']:,}", error


BENCHMARK = Benchmark(
    name="peers",
    measure=measure,
    tables=tables,
    packages=("transformers", "torchinfo", "accelerate", "deepspeed"),
)


def main() -> None:
    """All, or one answer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ask", nargs=2, metavar=("TOOL", "MODEL"))
    arguments = parser.parse_args()
    if arguments.ask:
        print(json.dumps(asked(*arguments.ask)))
    else:
        run(BENCHMARK)


if __name__ == "__main__":
    main()
