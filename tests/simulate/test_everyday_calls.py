"""Everyday calls against what a CUDA build of torch allocated for them, size by size."""

import json
import lzma
from pathlib import Path

import pytest
import torch

from benchmarks.cuda import recorded_card
from pytest_memreq.errors import SimulationError
from pytest_memreq.simulate.device import PretendedDevice
from tests.simulate.everyday_calls import CALLS, run

DATA = Path(__file__).parent / "data"
VERSION = ".".join(torch.__version__.split("+")[0].split(".")[:2])
RECORDING = DATA / f"calls_{VERSION}.json.xz"
ALLOCATED = json.loads(lzma.decompress(RECORDING.read_bytes())) if RECORDING.exists() else {}
# Calls, by a part of them, that are known to differ, and why.
SOLVER = "workspaces of cuSOLVER are not known; the result says so"
LAYOUT = "which of several kernels takes this layout is not known"
RARE = "what the kernel takes for itself is not known; the result says so"
FORMULA = "autograd has another formula for what is not plainly CUDA's; it takes more"
DIFFERENT = {
    "linalg.": SOLVER,
    "bincount": "ends in an error: its size depends on values",
    "nn.LSTM(": "recurrent layers are simulated as products; the result says so",
    "nn.GRU(": "recurrent layers are simulated as products; the result says so",
    "n=nn.BatchNorm1d(10).cuda(); y=n(x); y.backward(torch.randn(10,4": LAYOUT,
    "n=nn.BatchNorm2d(10).cuda(); y=n(x); y.backward(torch.randn(10,4": LAYOUT,
    "channels_last); n=nn.BatchNorm2d(10)": LAYOUT,
    "channels_last); y=F.relu(x)*2": LAYOUT,
    "x=R(4,10); n=nn.BatchNorm1d": LAYOUT,
    "mode='circular'": "the order of two equal sums' gradients",
    "x=R(2,5,13,20,dtype=torch.bfloat16)": "padded heads are copied once more",
    "x.cumprod(1)": FORMULA,
    "renorm(2": FORMULA,
    **dict.fromkeys(("logcumsumexp", "nn.Bilinear", "max_norm"), RARE),
}
if VERSION == "2.15":
    DIFFERENT |= {
        "n=nn.GroupNorm(2,10)": LAYOUT,
        "y=nn.GroupNorm(2,8)": LAYOUT,
        "_foreach_max": "its partial results come first, and have another size, since 2.15",
        "spectral_norm": "one more workspace, of a product whose result is thrown away",
        "x,x,x); y=m(x,x,x,need_weights=False)": "the order of a workspace and a result",
    }


def simulated(call):
    device = PretendedDevice(recorded_card((9, 0)))
    with device.active():
        device.prepare()
        run(call)
        notes = device.finding().notes
    return [size for size in device.requests() if size > 0], notes


@pytest.mark.usefixtures("without_cudnn")
@pytest.mark.skipif(not ALLOCATED, reason=f"nothing was recorded with torch {VERSION}")
@pytest.mark.parametrize("call", CALLS)
def test_it_allocates_what_cuda_allocates(call):
    cause = next((why for part, why in DIFFERENT.items() if part in call), None)
    if cause is not None and cause.startswith("ends in an error"):
        with pytest.raises(SimulationError, match="cannot be simulated"):
            simulated(call)
        return
    allocated, notes = simulated(call)
    assert (allocated == ALLOCATED[call]) == (cause is None), cause
    if cause is not None and cause.endswith("the result says so"):
        assert any("simulated as" in note or "not counted" in note for note in notes)
