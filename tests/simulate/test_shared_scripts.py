"""61 scripts whose peaks on a CUDA build are on record, where scripts and record are at hand."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch

from pytest_memreq.simulate import simulate

SHARED = Path(__file__).parents[3] / "shared"
SCRIPTS = SHARED / "tools" / "cuda_oracle" / "cases.py"
RECORD = SHARED / "research" / "oracle-comparison.md"
# Where the simulation is known to differ, and why.
DIFFERENT = {
    "unique": "the result depends on values: its upper bound is simulated",
    "nonzero": "the result depends on values: its upper bound is simulated",
    "fft": "workspaces of cuFFT are not known",
    "multinomial": "checks of its input take 10 bytes more",
}


def peaks():
    """(allocated, reserved) of each script, from the table."""
    rows = re.findall(
        r"^\| (\w+) \| ([0-9,]+) \|[^|]*\| ([0-9,]+) \|", RECORD.read_text("utf-8"), re.MULTILINE
    )
    return {name: tuple(int(n.replace(",", "")) for n in sizes) for name, *sizes in rows}


PEAKS = peaks() if RECORD.exists() else {}
pytestmark = [
    pytest.mark.skipif(not SCRIPTS.exists(), reason="the scripts are not here"),
    pytest.mark.skipif(not torch.__version__.startswith("2.13"), reason="recorded with torch 2.13"),
]


@pytest.fixture(scope="module")
def scripts():
    """The scripts, which set torch as they were recorded: without cuDNN."""
    spec = importlib.util.spec_from_file_location("recorded_scripts", SCRIPTS)
    module = importlib.util.module_from_spec(spec)
    cudnn, sdp = torch.backends.cudnn.enabled, torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cudnn.enabled = False
    torch.backends.cuda.enable_cudnn_sdp(False)
    spec.loader.exec_module(module)
    yield module.C
    torch.backends.cudnn.enabled = cudnn
    torch.backends.cuda.enable_cudnn_sdp(sdp)


@pytest.mark.parametrize("name", PEAKS or ["none"])
def test_peaks_are_those_of_the_cuda_build(scripts, name):
    peak = simulate(scripts[name]).peak
    is_equal = (peak.allocated_bytes, peak.reserved_bytes) == PEAKS[name]
    assert is_equal == (name not in DIFFERENT), (peak, PEAKS[name], DIFFERENT.get(name))
