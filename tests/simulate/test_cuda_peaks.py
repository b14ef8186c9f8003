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
def test_requested_peak_is_that_of_cuda_to_the_byte(name):
    peak = simulate(SCRIPTS[name], gpu="NVIDIA H200").peak
    assert peak.requested_bytes == PEAKS[name]["requested_bytes"]


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name.startswith("mlp")])
def test_allocated_peak_is_exact_where_the_sequence_of_allocations_is(name):
    peak = simulate(SCRIPTS[name], gpu="NVIDIA H200").peak
    assert peak.allocated_bytes == PEAKS[name]["allocated_bytes"]
    assert peak.reserved_bytes == PEAKS[name]["reserved_bytes"]


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name.startswith("decoder")])
def test_allocated_peak_is_near_where_kernels_use_memory_of_their_own(name):
    peak = simulate(SCRIPTS[name], gpu="NVIDIA H200").peak
    assert peak.allocated_bytes == pytest.approx(PEAKS[name]["allocated_bytes"], rel=0.005)
