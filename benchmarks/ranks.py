"""GPT-3 175B as one rank of 1,024, beside its closed form; FSDP beside torch's own memory tracker.

`python -m benchmarks.ranks` simulates a training step of GPT-3 with `fully_shard`, bfloat16 and
activation checkpointing: what the formulas say, term by term, and what was simulated; then small
models with `fully_shard`, by memreq and by FSDPMemTracker on fake tensors, each in a process of its
own. `--steps 2` is GPT-3 alone with the optimizer's states at the peak too, `--small` a model of 6
blocks on 128 ranks.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn import functional

from benchmarks.rank_scripts import GPT, MIXED, SCRIPTS, sharded
from benchmarks.results import Benchmark, markdown, resident_bytes, run
from pytest_memreq import Parallelism, Transformer, estimate, simulate
from pytest_memreq.simulate.versions import torch_version
from pytest_memreq.simulate.workspaces import LARGE_BYTES, TRANSIENT_SINCE

TRACKED = (("fsdp of 8", 8), ("fsdp of 64", 64))


@dataclass(frozen=True)
class Size:
    """A GPT, the tokens of a rank, and how many ranks there are."""

    depth: int
    width: int
    heads: int
    vocabulary: int
    length: int
    world_size: int


GPT_3 = Size(96, 12288, 96, 50257, 2048, 1024)
SMALL = Size(6, 2048, 16, 8192, 512, 128)


def training(size, steps):
    """Steps of the model, made on meta, divided by `fully_shard`, with fused AdamW."""
    with torch.device("meta"):
        model = GPT(size.depth, size.width, size.heads, size.vocabulary, size.length)
    sharded(model, checkpoints=True, mp_policy=MIXED)
    model.to_empty(device="cuda")
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    for _ in range(steps):
        tokens = torch.randint(size.vocabulary, (1, size.length), device="cuda")
        logits = model(tokens)
        functional.cross_entropy(logits.flatten(0, 1).float(), tokens.flatten()).backward()
        del logits
        optimizer.step()
        optimizer.zero_grad()


def simulated(size, steps=1, rank=0):
    return simulate(
        partial(training, size, steps),
        world_size=size.world_size,
        rank=rank,
        gpu="NVIDIA H100 80GB HBM3",
    )


def closed_form(size, steps=1):
    """Bytes at the peak, by what they are: ZeRO-3, the activation formula, and FSDP at work.

    The peak is in the backward of the last block but one: while it works on its own gradients,
    those of the block before are being reduced, and the next block's parameters gathered.
    """
    model = Transformer(
        layers=size.depth,
        hidden=size.width,
        heads=size.heads,
        vocabulary=size.vocabulary,
        positions=size.length,
        tied_embeddings=False,
        fused_attention=True,
        dropout=False,
    )
    zero_3 = estimate(
        model,
        optimizer="adamw",
        precision="fp32",
        parallelism=Parallelism(data=size.world_size, zero=3),
        sequence_length=size.length,
        recompute="full",
    ).breakdown
    block = 12 * size.width**2 + 13 * size.width
    rows = -(-size.vocabulary // size.world_size) * size.world_size  # padded to whole shards
    return {
        "ZeRO-3: parameters": zero_3.parameters_bytes,
        "ZeRO-3: optimizer states": zero_3.optimizer_states_bytes if steps > 1 else 0,
        "activations: the input of each block": 2 * size.length * size.width * size.depth,
        "parameters of a block, gathered": 2 * block,
        "those of the next one, on their way": 2 * block,
        "gradients of a block": 2 * block,
        "those of the block before, in float32, being reduced": 4 * block,
        "embedding, head and positions, gathered": 2 * (2 * rows + size.length) * size.width,
        "gradient of the head": 2 * size.vocabulary * size.width,
        "logits, which the name keeps": 2 * size.length * size.vocabulary,
        "workspaces of cuBLAS": (1 if torch_version() >= TRANSIENT_SINCE else 2) * LARGE_BYTES,
    }


def figures(size, steps):
    """Terms of the closed form and the simulated peak, in bytes; seconds, and resident bytes."""
    began = time.perf_counter(), time.process_time()
    simulation = simulated(size, steps)
    seconds, busy = time.perf_counter() - began[0], time.process_time() - began[1]
    return {
        "terms": closed_form(size, steps),
        "simulated_bytes": simulation.peak.allocated_bytes,
        "peak_at": str(simulation.peak_at),
        "seconds": seconds,
        "core_seconds": busy,
        "resident_bytes": resident_bytes(),
    }


def compared_table(found):
    """Term by term."""
    total, peak = sum(found["terms"].values()), found["simulated_bytes"]
    return markdown(
        ("term", "bytes"),
        [
            *((name, f"{size_bytes:,}") for name, size_bytes in found["terms"].items()),
            ("closed form", f"{total:,}"),
            ("simulated", f"{peak:,} ({peak / total - 1:+.2%})"),
        ],
    )


def cost(found):
    """Of the simulation, in a line."""
    return (
        f"{found['seconds']:.1f} s, {found['core_seconds']:.1f} s of them of a core, "
        f"{found['resident_bytes'] / 2**20:.0f} MiB of resident memory with torch."
    )


def memreq_peak(name):
    script = SCRIPTS[name]
    found = simulate(script.run, world_size=script.world_size, rank=script.rank)
    return found.peak.allocated_bytes - found.breakdown.workspaces_bytes


def tracker_peak(name):
    """As torch's own test of the tracker calls it; the card is fake, and so are all tensors."""
    from torch import distributed
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
    from torch.testing._internal.distributed.fake_pg import FakeStore

    script = SCRIPTS[name]
    distributed.init_process_group(
        "fake", store=FakeStore(), rank=script.rank, world_size=script.world_size
    )
    mesh = distributed.device_mesh.init_device_mesh("cpu", (script.world_size,))
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = sharded(GPT(), mesh=mesh)
        optimizer = torch.optim.AdamW(model.parameters())
        tracker = FSDPMemTracker(model, optimizer)
        tokens = torch.randint(1000, (2, 128))
        tracker.track_inputs((tokens,))
        with tracker:
            for _ in range(2):
                logits = model(tokens)
                functional.cross_entropy(logits.flatten(0, 1).float(), tokens.flatten()).backward()
                del logits
                optimizer.step()
                optimizer.zero_grad()
                tracker.reset_mod_stats()
        snapshot = tracker.get_tracker_snapshot("peak")
    return max(by_kind["Total"] for by_kind in snapshot.values())


TOOLS = {"memreq": memreq_peak, "FSDPMemTracker": tracker_peak}


def run_here(tool, name):
    """A peak without workspaces, in this process."""
    began = time.perf_counter()
    peak_bytes = TOOLS[tool](name)
    seconds = time.perf_counter() - began
    return {"peak_bytes": peak_bytes, "seconds": seconds, "resident_bytes": resident_bytes()}


def elsewhere(*arguments):
    """What this module prints as JSON in a process of its own, or why it did not."""
    command = [sys.executable, "-m", "benchmarks.ranks", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stderr if done.returncode else done.stdout
    last = lines.strip().splitlines()[-1]
    return {"failed": last[:120]} if done.returncode else json.loads(last)


def measure():
    """GPT-3, and small models with both tools."""
    return {
        "gpt_3": elsewhere("--once"),
        "tracker": {
            name: {tool: elsewhere("--run", tool, name) for tool in TOOLS} for name, _ in TRACKED
        },
    }


def tracked(work, tool, found):
    """A row."""
    if "failed" in found:
        return work, tool, f"failed: {found['failed']}", "-", "-"
    resident = f"{found['resident_bytes'] / 2**20:.0f}"
    return work, tool, f"{found['peak_bytes']:,}", f"{found['seconds']:.1f}", resident


def tables(runs):
    """GPT-3 beside its closed form, and both trackers."""
    (kept,) = runs.values()
    rows = [
        tracked(work, tool, found)
        for work, answers in kept.found["tracker"].items()
        for tool, found in answers.items()
    ]
    return {
        "about": kept.about,
        "gpt_3": compared_table(kept.found["gpt_3"]),
        "gpt_3_cost": cost(kept.found["gpt_3"]),
        "tracker": markdown(
            ("work", "tool", "peak without workspaces, bytes", "seconds", "resident, MiB"), rows
        ),
    }


BENCHMARK = Benchmark(name="ranks", measure=measure, tables=tables)


def main():
    """All, or one part of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--run", nargs=2, metavar=("TOOL", "WORK"))
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(run_here(*arguments.run)))
    elif arguments.once:
        print(json.dumps(figures(GPT_3, 1)))
    elif arguments.small or arguments.steps > 1:
        found = figures(SMALL if arguments.small else GPT_3, arguments.steps)
        print(compared_table(found), cost(found), sep="\n\n")
    else:
        run(BENCHMARK)


if __name__ == "__main__":
    main()
