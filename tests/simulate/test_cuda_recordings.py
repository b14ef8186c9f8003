"""Whole scripts against what a CUDA build of torch allocated for them, request by request."""

import sys

import pytest
import torch

from benchmarks.cuda import METRICS, allocations, known, records, simulated
from benchmarks.cuda_scripts import SCRIPTS

CAPABILITY = (9, 0)  # `python -m benchmarks.cuda` compares the others as well
RECORDED = next((r["scripts"] for r in records() if tuple(r["capability"]) == CAPABILITY), {})
# Python 3.10 lets go of what a call was given later than 3.11, which recorded, as it would on a
# card: other chunks are free then.
COMPARED = METRICS if sys.version_info >= (3, 11) else ("requested",)
DIFFERENT = known(".".join(torch.__version__.split(".")[:2]))

pytestmark = [
    pytest.mark.usefixtures("without_cudnn"),
    pytest.mark.skipif(not RECORDED, reason=f"nothing was recorded with torch {torch.__version__}"),
]


@pytest.mark.parametrize("name", SCRIPTS)
def test_peaks_are_those_of_cuda_to_the_byte(name):
    if (recorded := RECORDED[name])["error"] is not None:
        pytest.skip(recorded["error"])
    found = simulated(name, CAPABILITY)
    is_same = allocations(found["events"]) == allocations(recorded["events"])
    assert is_same == (name not in DIFFERENT), name
    is_equal = all(found[f"{metric}_bytes"] == recorded[f"{metric}_bytes"] for metric in COMPARED)
    assert is_equal or name in DIFFERENT, (found, recorded)
