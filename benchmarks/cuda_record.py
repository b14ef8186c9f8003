"""Runs every script on a CUDA build of torch and writes what its caching allocator was asked for.

`python -m benchmarks.cuda_record FILE`: on a card, or on a build whose libraries do nothing, where
the environment says which capability it pretends. A script that fails is written with its error.
With `--ranks` the scripts are those of `rank_scripts`, each as one rank of torch's fake group.
"""

import argparse
import json
import multiprocessing
from functools import partial
from pathlib import Path

import torch

from benchmarks.cuda_scripts import SCRIPTS
from benchmarks.rank_scripts import SCRIPTS as RANK_SCRIPTS

ACTIONS = {"alloc": 1, "free_completed": -1}


def alone(name):
    """Run a script on one card."""
    SCRIPTS[name]()


def as_rank(name):
    """Run a script as a rank of a fake group."""
    from torch import distributed
    from torch.distributed.pipelining import PipelineStage
    from torch.nn.parallel import DistributedDataParallel
    from torch.testing._internal.distributed.fake_pg import FakeStore

    script = RANK_SCRIPTS[name]
    distributed.init_process_group(
        "fake", store=FakeStore(), rank=script.rank, world_size=script.world_size
    )
    # What follows would go by values that the other ranks had sent: sizes of parameters, gradients
    # that were added up, what stages know of each other's shapes.
    distributed._verify_params_across_processes = lambda *_args: None
    make = DistributedDataParallel.__init__

    def make_with_hook(model, *args, **kwargs):
        make(model, *args, **kwargs)
        model.register_comm_hook(None, done)

    DistributedDataParallel.__init__ = make_with_hook
    agreed = torch.ones(1, dtype=torch.int32)
    PipelineStage._warmup_forward_vote = lambda *_args, **_kwargs: agreed
    PipelineStage._warmup_backward_result = lambda *_args, **_kwargs: agreed
    script.run()


def done(_state, bucket):
    """A bucket that was reduced at once."""
    future = torch.futures.Future()
    future.set_result(bucket.buffer())
    return future


def record(run, name):
    """Requests in order, a free as the request's negative; and the peaks."""
    # The build has no cuDNN, and newer cards would prefer its attention.
    torch.backends.cudnn.enabled = False
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.cuda.memory._record_memory_history(max_entries=10_000_000)
    try:
        run(name)
        error = None
    except (RuntimeError, SystemError) as raised:
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--ranks", action="store_true")
    arguments = parser.parse_args()
    run, names = (as_rank, RANK_SCRIPTS) if arguments.ranks else (alone, SCRIPTS)
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        found = pool.map(partial(record, run), names, chunksize=1)
    result = {
        "torch": torch.__version__.split("+")[0],
        "capability": found[0]["capability"],
        "scripts": {row.pop("name"): row for row in found if row.pop("capability")},
    }
    arguments.file.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
