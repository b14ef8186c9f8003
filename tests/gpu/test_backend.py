"""The CUDA backend on a real card."""

import subprocess
import sys

import pytest
import torch

from pytest_memreq.measure.backends.cuda import CudaBackend
from pytest_memreq.measure.driver import device_used_bytes, process_bytes
from tests.measure.test_backends import SIZE_BYTES, Contract, TorchCard

LARGE_BYTES = 64 << 20  # a multiple of what the allocator rounds large segments to
LOSING = """
import torch
from pytest_memreq.errors import DeviceLostError
from pytest_memreq.measure.backends.cuda import CudaBackend

torch.ones(1, device="cuda")[torch.tensor([5], device="cuda")]
try:
    CudaBackend(0).synchronize()
except DeviceLostError as error:
    print(error)
"""


def computes():
    """False where kernels do nothing, as on stand-ins for the driver's libraries."""
    return torch.ones(1, device="cuda").item() == 1


def skip_without(index):
    # Not while the module is imported: the plugin pretends a card to those that ask then.
    if index >= torch.cuda.device_count():
        pytest.skip(f"no CUDA device {index}")


@pytest.fixture(params=[0, 1])
def card(request):
    skip_without(request.param)
    card = TorchCard(CudaBackend(request.param))
    card.backend.warm_up()
    card.backend.release_unused()
    yield card
    card.backend.cap(None)
    card.backend.rest()


class TestCuda(Contract):
    pass


def test_peaks_are_torchs_own(card):
    card.backend.reset_peaks()
    kept, gone = card.allocate(SIZE_BYTES), card.allocate(LARGE_BYTES + 1)
    card.free(gone)
    peak, index = card.backend.peak(), card.backend.index
    assert peak.allocated_bytes == torch.cuda.max_memory_allocated(index)
    assert peak.reserved_bytes == torch.cuda.max_memory_reserved(index)
    assert peak.requested_bytes == torch.cuda.memory_stats(index)["requested_bytes.all.peak"]
    card.free(kept)


def test_warming_up_leaves_nothing_but_workspaces(card):
    before_bytes = card.backend.allocated_bytes()
    card.backend.warm_up()
    card.backend.release_unused()
    assert card.backend.allocated_bytes() == before_bytes


def test_a_cap_refuses_what_is_above_it_and_tells_how_much(card):
    card.backend.reset_peaks()
    kept = card.allocate(SIZE_BYTES)
    reserved_bytes = card.backend.reserved_bytes()
    assert card.backend.cap(reserved_bytes + LARGE_BYTES - 1)
    with pytest.raises(torch.OutOfMemoryError):
        card.allocate(LARGE_BYTES)
    refusal = card.backend.refusal()
    assert refusal.requested_bytes == LARGE_BYTES
    assert refusal.allocated_bytes == card.backend.allocated_bytes()
    card.backend.reset_peaks()
    assert card.backend.refusal() is None
    card.free(kept)


def test_a_cap_lets_through_what_is_just_below_it_and_all_once_lifted(card):
    card.backend.release_unused()
    assert card.backend.cap(card.backend.reserved_bytes() + LARGE_BYTES)
    kept = card.allocate(LARGE_BYTES)
    card.backend.cap(None)
    card.free(card.allocate(2 * LARGE_BYTES))
    card.free(kept)


def test_the_driver_sees_all_that_the_allocator_holds_or_says_why_not(card):
    kept = card.allocate(LARGE_BYTES)
    for found in (process_bytes(card.backend.index), device_used_bytes(card.backend.index)):
        assert found.reason if found.bytes is None else found.bytes > card.backend.reserved_bytes()
    card.free(kept)


def test_a_lost_context_is_told():
    skip_without(0)
    if not computes():
        pytest.skip("kernels do nothing here")
    run = subprocess.run(
        [sys.executable, "-c", LOSING], capture_output=True, text=True, check=True, timeout=120
    )
    assert run.stdout == "CUDA context lost: device-side assert triggered\n"
