"""The card's capacity, streams, and settings of the allocator, seen from the user's code."""

import pytest
import torch
from torch import nn

from pytest_memreq.errors import MemreqError, SimulationError
from pytest_memreq.simulate import simulate

MIB = 2**20


def take(size, **more):
    return torch.empty(size, dtype=torch.uint8, device="cuda", **more)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.wide = nn.Linear(1024, 8192)

    def forward(self, x):
        return self.wide(x)


def test_a_step_that_does_not_fit_fails_as_on_the_card_and_says_where():
    def step():
        net = Net().cuda()
        net(torch.randn(2048, 1024, device="cuda"))

    with pytest.raises(torch.OutOfMemoryError) as error:
        simulate(step, gpu="T4", capacity="64 MiB")
    assert isinstance(error.value, torch.cuda.OutOfMemoryError)
    said = str(error.value)
    assert said.startswith(
        "CUDA out of memory (simulated): tried to allocate 64.00 MiB for aten.addmm in forward of "
        "wide, "
    )
    assert "test_memory_of_the_card.py:" in said
    assert said.endswith("Tesla T4 has 64.00 MiB, 40.03 MiB are allocated and 54.00 MiB reserved")
    assert simulate(step, gpu="T4").peak.allocated_bytes > 100 * MIB


def test_code_that_catches_it_goes_on():
    """As those that look for the largest batch do."""
    fitted = []

    def fits(batch):
        try:
            take(batch * MIB)
        except torch.cuda.OutOfMemoryError:
            return False
        return True

    def step():
        batch = 64
        while batch:
            if fits(batch):
                fitted.append(batch)
                return
            batch //= 2

    simulation = simulate(step, capacity="20 MiB")
    assert fitted == [16]
    assert simulation.peak.allocated_bytes == 16 * MIB


def test_a_full_card_gives_its_cache_back_before_it_fails():
    seen = {}

    def step():
        take(30 * MIB)
        held = take(40 * MIB)  # the first one is cached, too small and in the way
        seen.update(torch.cuda.memory_stats())
        del held

    simulate(step, capacity="64 MiB")
    assert seen["num_alloc_retries"] == 1
    assert seen["num_ooms"] == 0
    assert seen["reserved_bytes.all.current"] == 40 * MIB


def test_settings_decide_what_is_reserved():
    def step():
        held = [take(size * MIB) for size in (12, 46, 18)]
        del held[1]
        held.append(take(20 * MIB))

    peaks = {
        conf: simulate(step, allocator=conf).peak
        for conf in (
            None,
            "expandable_segments:True",
            "max_split_size_mb:20",
            "roundup_power2_divisions:1",
        )
    }
    assert {conf: peak.reserved_bytes // MIB for conf, peak in peaks.items()} == {
        None: 76,
        "expandable_segments:True": 80,
        "max_split_size_mb:20": 96,
        "roundup_power2_divisions:1": 76,
    }
    assert len({peak.requested_bytes for peak in peaks.values()}) == 1


@pytest.mark.parametrize("conf", ["x", "max_split_size_mb:1", "backend:cudaMallocAsync"])
def test_settings_that_are_none_are_one_error(conf):
    with pytest.raises(MemreqError, match=r"^allocator"):
        simulate(lambda: take(1), allocator=conf)


def test_memory_belongs_to_the_stream_that_was_current():
    seen = []

    def step():
        side = torch.cuda.Stream()
        assert side != torch.cuda.current_stream()
        with torch.cuda.stream(side):
            assert torch.cuda.current_stream() == side
            take(30 * MIB)
        assert torch.cuda.current_stream() == torch.cuda.default_stream()
        take(30 * MIB)
        seen.append(torch.cuda.memory_reserved())

    simulate(step)
    assert seen == [60 * MIB]


def test_a_recorded_tensors_memory_waits_for_the_next_request():
    def step(records):
        side = torch.cuda.Stream()
        tensor = take(30 * MIB)
        if records:
            tensor.record_stream(side)
        tensor.record_stream(torch.cuda.current_stream())  # its own: nothing to wait for
        del tensor
        stats = torch.cuda.memory_stats()
        seen.append((stats["active_bytes.all.current"], stats["allocated_bytes.all.current"]))
        take(30 * MIB)
        seen.append(torch.cuda.memory_reserved())

    for records, active in ((False, 0), (True, 30 * MIB)):
        seen = []
        simulate(step, records)
        assert seen == [(active, 0), 30 * MIB]


def test_statistics_have_peaks_and_no_figure_that_is_not_known():
    seen = {}

    def step():
        gone = take(30 * MIB)
        del gone
        kept = take(10 * MIB)
        before = torch.cuda.memory_stats()
        torch.cuda.reset_peak_memory_stats()
        seen.update(before=before, after=torch.cuda.memory_stats())
        del kept

    peak = simulate(step).peak
    for metric in ("allocated", "active", "requested"):
        assert seen["before"][f"{metric}_bytes.all.peak"] == 30 * MIB
        assert seen["after"][f"{metric}_bytes.all.peak"] == 10 * MIB
    assert peak.requested_bytes == peak.allocated_bytes == 30 * MIB  # whatever was reset
    assert seen["after"].get("nobody's", 7) == 7
    with pytest.raises(SimulationError, match="is not simulated; there are allocated"):
        seen["after"].get("segment.all.current", 0)
    with pytest.raises(KeyError):
        seen["after"]["nobody's"]
