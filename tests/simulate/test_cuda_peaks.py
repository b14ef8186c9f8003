"""Simulated peaks against those that the CUDA build of torch counted for the same scripts."""

import json
from pathlib import Path

import pytest
import torch

from pytest_memreq.simulate import simulate
from tests.simulate.scripts import SCRIPTS

RECORDED = json.loads(Path(__file__).with_name("cuda_peaks.json").read_text())
PEAKS = {row["script"]: row for row in RECORDED["peaks"]}

pytestmark = pytest.mark.skipif(
    not torch.__version__.startswith(RECORDED["torch"]),
    reason=f"recorded with torch {RECORDED['torch']}; other versions allocate otherwise",
)


@pytest.fixture(autouse=True)
def without_cudnn():
    """The recording build had no cuDNN, which newer cards would prefer for attention."""
    enabled = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(False)
    yield
    torch.backends.cuda.enable_cudnn_sdp(enabled)


@pytest.mark.parametrize("name", SCRIPTS)
def test_peaks_are_those_of_cuda_to_the_byte(name):
    peak = simulate(SCRIPTS[name], gpu="NVIDIA H200").peak
    recorded = PEAKS[name]
    assert peak.requested_bytes == recorded["requested_bytes"]
    assert peak.allocated_bytes == recorded["allocated_bytes"]
    assert peak.reserved_bytes == recorded["reserved_bytes"]
