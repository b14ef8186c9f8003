"""Simulating a training step, beside torch's own MemTracker on fake tensors.

`python -m benchmarks.simulation` prints a Markdown table: seconds, and growth of the peak of
resident memory, each in a process of its own, the better of two runs. The Llama of 7B is not given
to MemTracker, which would take minutes.
"""

import argparse
import gc
import json
import resource
import subprocess
import sys
import time
from functools import partial

RUNS = 2


def gpt_steps(device, after_step=lambda: None, depth=24):
    """Two steps of a GPT of so many blocks, 1024 wide, batch 2 of 512 tokens, with AdamW."""
    import torch
    from torch.nn.functional import cross_entropy

    from example_project.models.gpt import GPT

    with torch.device(device):
        model = GPT(depth=depth, width=1024, heads=16)
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(2):
        tokens = torch.zeros(2, 513, dtype=torch.int64, device=device)
        logits = model(tokens[:, :-1])
        cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
        after_step()


def llama_step():
    """One step of Llama 2 7B in bfloat16, batch 1 of 2048 tokens, with AdamW."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("cuda"):
        torch.set_default_dtype(torch.bfloat16)
        model = LlamaForCausalLM(LlamaConfig())
        torch.set_default_dtype(torch.float32)
    optimizer = torch.optim.AdamW(model.parameters())
    tokens = torch.zeros(1, 2048, dtype=torch.int64, device="cuda")
    model(input_ids=tokens, labels=tokens).loss.backward()
    optimizer.step()


def memreq_gpt(depth=24):
    from pytest_memreq import simulate

    return simulate(partial(gpt_steps, "cuda", depth=depth)).peak.allocated_bytes


def memtracker_gpt():
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.mem_tracker import MemTracker

    with FakeTensorMode(), (tracker := MemTracker()):
        gpt_steps("cpu", tracker.reset_mod_stats)
    return next(iter(tracker.get_tracker_snapshot("peak").values()))["Total"]


def memreq_llama():
    from pytest_memreq import simulate

    return simulate(llama_step).peak.allocated_bytes


CASES = {
    "GPT 24 x 1024, two steps, memreq": memreq_gpt,
    "GPT 24 x 1024, two steps, MemTracker": memtracker_gpt,
    "Llama 2 7B, one step, memreq": memreq_llama,
    **{
        f"GPT {depth} x 1024, two steps, memreq": partial(memreq_gpt, depth)
        for depth in (12, 48, 96)
    },
}


def measured(name):
    """Seconds, growth of the peak and the figure found; what both import is imported before."""
    import torch._dynamo
    import transformers.models.llama.modeling_llama

    del torch, transformers
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    figure = CASES[name]()
    seconds = time.perf_counter() - start
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"seconds": seconds, "growth": growth, "figure": figure}


def main():
    """Compare, or measure once for a comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", choices=CASES)
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(measured(arguments.once)))
        return
    print("| work | seconds | growth of the peak, MiB | peak allocated, GiB |")
    print("|---|---|---|---|")
    for name in CASES:
        command = [sys.executable, "-m", "benchmarks.simulation", "--once", name]
        runs = [
            json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            for _ in range(RUNS)
        ]
        seconds, growth = (min(run[figure] for run in runs) for figure in ("seconds", "growth"))
        figure = runs[0]["figure"] / 2**30
        print(f"| {name} | {seconds:.2f} | {growth:.0f} | {figure:.2f} |", flush=True)


if __name__ == "__main__":
    main()
