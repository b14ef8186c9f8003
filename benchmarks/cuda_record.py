"""Runs every script on a CUDA build of torch and writes what its caching allocator was asked for.

`python -m benchmarks.cuda_record FILE`: on a card, or on a build whose libraries do nothing, where
the environment says which capability it pretends. A script that fails is written with its error.
"""

import json
import multiprocessing
import sys
from pathlib import Path

import torch

from benchmarks.cuda_scripts import SCRIPTS

ACTIONS = {"alloc": 1, "free_completed": -1}


def record(name):
    """Requests in order, a free as the request's negative; and the peaks."""
    # The build has no cuDNN, and newer cards would prefer its attention.
    torch.backends.cudnn.enabled = False
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.cuda.memory._record_memory_history(max_entries=10_000_000)
    try:
        SCRIPTS[name]()
        error = None
    except RuntimeError as raised:
        error = str(raised).splitlines()[0]
    stats = torch.cuda.memory_stats()
    trace = torch.cuda.memory._snapshot()["device_traces"][0]
    events = [ACTIONS[e["action"]] * e["size"] for e in trace if e["action"] in ACTIONS]
    peaks = {
        f"{metric}_bytes": stats[f"{metric}_bytes.all.peak"]
        for metric in ("requested", "allocated", "reserved")
    }
    capability = torch.cuda.get_device_capability()
    return {"name": name, "capability": capability, **peaks, "error": error, "events": events}


def main():
    """Record all, each in a process of its own: some leave memory behind."""
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        found = pool.map(record, SCRIPTS, chunksize=1)
    result = {
        "torch": torch.__version__.split("+")[0],
        "capability": found[0]["capability"],
        "scripts": {row.pop("name"): row for row in found if row.pop("capability")},
    }
    Path(sys.argv[1]).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
