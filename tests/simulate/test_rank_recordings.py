"""One rank of many against what a CUDA build of torch allocated for it, request by request."""

import pytest
import torch

from benchmarks.cuda import METRICS, allocations, records, simulated_rank
from benchmarks.rank_scripts import SCRIPTS

CAPABILITY = (9, 0)
RECORDED = next(
    (r["scripts"] for r in records("ranks") if tuple(r["capability"]) == CAPABILITY), {}
)
# What the build that recorded could not run: it has no pinned memory.
UNRECORDED = {"ddp, static", "ddp, unused parameters"}
# Where the group that recorded is not NCCL's: whose work holds what is sent until it is waited for.
SENT_BYTES = 2 * 64 * 256 * 4
HELD_LONGER = {
    "pipeline, gpipe, stage 0": SENT_BYTES,
    "pipeline, gpipe, stage 1": 2 * SENT_BYTES,
    "pipeline, gpipe, stage 3": SENT_BYTES,
}
# One head on each rank: a copy of 1 KiB in attention's backward that CUDA does without.
ONE_HEAD = {"tensor parallel", "tensor parallel, the last rank"}

pytestmark = [
    # Of functions that torch deprecates, and of gradients of DDP that go another way.
    *map(pytest.mark.filterwarnings, ("ignore::DeprecationWarning", "ignore::FutureWarning")),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.usefixtures("without_cudnn"),
    pytest.mark.skipif(not RECORDED, reason=f"nothing was recorded with torch {torch.__version__}"),
]


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name not in UNRECORDED])
def test_a_rank_allocates_what_cuda_does_to_the_byte(name):
    found, recorded = simulated_rank(name, CAPABILITY), RECORDED[name]
    assert recorded["error"] is None
    is_same = allocations(found["events"]) == allocations(recorded["events"])
    assert is_same == (name not in ONE_HEAD)
    more = {m: found[f"{m}_bytes"] - recorded[f"{m}_bytes"] for m in METRICS}
    held_bytes = HELD_LONGER.get(name, 0)
    assert more == {"requested": held_bytes, "allocated": held_bytes, "reserved": 0}


@pytest.mark.parametrize("name", sorted(UNRECORDED))
def test_what_was_not_recorded_runs(name):
    assert simulated_rank(name, CAPABILITY)["allocated_bytes"] > 0
