"""What kernels take for themselves, operator by operator, against a CUDA build of torch."""

import itertools
import json
import lzma
from pathlib import Path

import pytest
import torch

from pytest_memreq.simulate.cards import find_card
from pytest_memreq.simulate.device import PretendedDevice
from pytest_memreq.simulate.kernels import RULES
from tests.simulate.kernel_cases import CASES

RECORDING = json.loads(
    lzma.decompress((Path(__file__).parent / "data" / "kernels.json.xz").read_bytes())
)
WORKSPACE = (2**25, ~(2**25))


@pytest.fixture(scope="module")
def device():
    """A card of the recording's capability, with as many multiprocessors."""
    return PretendedDevice(find_card("NVIDIA H200"))


def simulated(device, case):
    """[bytes, ~bytes where freed, ...] of the call; workspaces are not what is asked about."""
    with device.active():
        call = case()
        device.prepare()
        call()
    ledger = device._ledger
    blocks = [(event >= 0, ledger.blocks[max(event, ~event)]) for event in ledger.events]
    return in_order(
        block.requested_bytes if is_new else ~block.requested_bytes
        for is_new, block in blocks
        if block.requested_bytes and block.operator != "cublas workspace"
    )


def in_order(events):
    """What is freed between two allocations, sorted; what is freed at either end is left out.

    Python and C++ differ in which goes first; autograd's thread lets go of results when it will.
    """
    groups = [
        (is_new, list(group) if is_new else sorted(group))
        for is_new, group in itertools.groupby(events, lambda event: event >= 0)
    ]
    kept = groups[not groups[0][0] : len(groups) - (not groups[-1][0])]
    return [event for _, group in kept for event in group]


@pytest.mark.skipif(not torch.__version__.startswith("2.13"), reason="recorded with torch 2.13")
@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore:var\\(\\). degrees of freedom")  # as on the card
def test_the_events_are_those_of_the_cuda_build(device, name):
    theirs = [event for event in RECORDING["events"][name] if event not in WORKSPACE]
    assert simulated(device, CASES[name]) == in_order(theirs)


def test_the_recording_has_every_case():
    assert set(RECORDING["events"]) == set(CASES)
    assert len(RULES) > 40
