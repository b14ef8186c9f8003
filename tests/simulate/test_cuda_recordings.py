"""Whole scripts against what a CUDA build of torch allocated for them, request by request."""

import pytest
import torch

from benchmarks.cuda import METRICS, WHY, allocations, records, simulated
from benchmarks.cuda_scripts import SCRIPTS

CAPABILITY = (9, 0)  # `python -m benchmarks.cuda` compares the others as well
RECORDED = next((r["scripts"] for r in records() if tuple(r["capability"]) == CAPABILITY), {})
pytestmark = [
    pytest.mark.usefixtures("without_cudnn"),
    pytest.mark.skipif(not RECORDED, reason=f"nothing was recorded with torch {torch.__version__}"),
]


@pytest.mark.parametrize("name", SCRIPTS)
def test_peaks_are_those_of_cuda_to_the_byte(name):
    found, recorded = simulated(name, CAPABILITY), RECORDED[name]
    is_equal = all(found[f"{metric}_bytes"] == recorded[f"{metric}_bytes"] for metric in METRICS)
    assert is_equal == (name not in WHY), (WHY.get(name), found, recorded)
    is_same = allocations(found["events"]) == allocations(recorded["events"])
    assert is_same == (name not in WHY), name
