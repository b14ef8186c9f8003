"""What every backend promises, held to scripted devices and to those that are here."""

import threading
import time
from types import SimpleNamespace

import pytest
import torch

from pytest_memreq.errors import DeviceLostError, MemreqError
from pytest_memreq.measure.backends.accelerator import AcceleratorBackend, find_accelerators
from pytest_memreq.measure.backends.finding import find_backends
from pytest_memreq.measure.backends.mps import THREAD, MpsBackend
from pytest_memreq.requirement import Peak

SIZE_BYTES = 4 << 20
COUNTED = ("allocation", "allocated_bytes", "requested_bytes", "reserved_bytes")
XPU = torch.device("xpu", 0)


class Contract:
    """The fixture `card` has a `backend`, `allocate` (gives what `free` takes) and `hold`."""

    def test_a_peak_is_no_less_than_what_is_allocated(self, card):
        card.backend.reset_peaks()
        block = card.allocate(SIZE_BYTES)
        assert card.backend.peak().allocated_bytes >= card.backend.allocated_bytes() >= SIZE_BYTES
        card.free(block)

    def test_a_reset_brings_the_peaks_down_to_now(self, card):
        card.backend.reset_peaks()
        kept, gone = card.allocate(SIZE_BYTES), card.allocate(SIZE_BYTES)
        card.hold()
        card.free(gone)
        assert card.backend.peak().allocated_bytes > card.backend.allocated_bytes()
        card.backend.reset_peaks()
        assert card.backend.peak().allocated_bytes == card.backend.allocated_bytes()
        card.free(kept)

    def test_what_came_and_went_is_in_the_peak(self, card):
        before_bytes = card.backend.allocated_bytes()
        card.backend.reset_peaks()
        block = card.allocate(SIZE_BYTES)
        card.hold()
        card.free(block)
        assert card.backend.allocated_bytes() == before_bytes
        assert card.backend.peak().allocated_bytes == before_bytes + SIZE_BYTES

    def test_a_peak_after_a_rest_is_the_next_ones(self, card):
        card.backend.reset_peaks()
        card.backend.rest()
        before_bytes = card.backend.allocated_bytes()
        card.backend.reset_peaks()
        block = card.allocate(SIZE_BYTES)
        card.hold()
        card.free(block)
        assert card.backend.peak().allocated_bytes == before_bytes + SIZE_BYTES

    def test_the_count_grows_with_each_allocation(self, card):
        counts, blocks = [card.backend.allocation_count()], []
        for _ in range(2):
            blocks.append(card.allocate(SIZE_BYTES))
            counts.append(card.backend.allocation_count())
        assert counts[0] < counts[1] < counts[2]
        for block in blocks:
            card.free(block)
        assert card.backend.allocation_count() == counts[2]

    def test_the_blocks_in_use_are_all_that_is_allocated(self, card):
        block = card.allocate(SIZE_BYTES)
        blocks = card.backend.live_blocks()
        if blocks is not None:
            assert sum(live.block_bytes for live in blocks) == card.backend.allocated_bytes()
            assert len({live.key for live in blocks}) == len(blocks)
            assert {live.device for live in blocks} == {card.backend.index}
        card.free(block)

    def test_a_block_that_was_watched_is_told_from_the_next_one_there(self, card):
        before = card.backend.live_blocks()
        block = card.allocate(SIZE_BYTES)
        if before is not None:
            (live,) = set(card.backend.live_blocks()) - set(before)
            card.backend.watch([live.key])
            assert live in card.backend.live_blocks()
            card.free(block)
            block = card.allocate(SIZE_BYTES)
            assert live not in card.backend.live_blocks()
            assert sum(b.block_bytes for b in card.backend.live_blocks()) == (
                card.backend.allocated_bytes()
            )
        card.free(block)

    def test_a_reset_of_ours_is_not_anybody_elses(self, card):
        told = []
        with card.backend.resets_noticed(lambda: told.append(1)):
            card.backend.reset_peaks()
        assert told == []

    def test_a_cap_can_be_lifted(self, card):
        assert card.backend.cap(None) is True

    def test_figures_are_ints_or_not_known(self, card):
        card.backend.reset_peaks()
        block = card.allocate(SIZE_BYTES)
        backend, peak = card.backend, card.backend.peak()
        known = [peak.allocated_bytes, backend.allocated_bytes(), backend.allocation_count()]
        perhaps = [peak.requested_bytes, peak.reserved_bytes, backend.reserved_bytes()]
        perhaps += [backend.capacity_bytes(), backend.outside().bytes]
        assert {type(figure) for figure in known} == {int}
        assert {type(figure) for figure in perhaps} <= {int, type(None)}
        assert (backend.outside().bytes is None) == bool(backend.outside().reason)
        card.free(block)

    def test_the_device_is_one_of_torchs(self, card):
        assert isinstance(card.backend.device(), torch.device)
        assert card.backend.device().index == card.backend.index
        assert card.backend.card_name()

    def test_waiting_and_giving_up_the_cache_leave_what_is_allocated(self, card):
        block = card.allocate(SIZE_BYTES)
        before_bytes = card.backend.allocated_bytes()
        card.backend.synchronize()
        card.backend.release_unused()
        assert card.backend.allocated_bytes() == before_bytes
        card.free(block)


class TorchCard:
    """A device that torch has: tensors are what is allocated."""

    def __init__(self, backend):
        self.backend = backend
        self.live = {}

    def allocate(self, size_bytes):
        block = object()
        self.live[block] = torch.empty(size_bytes, dtype=torch.uint8, device=self.backend.device())
        return block

    def free(self, block):
        del self.live[block]

    def hold(self):
        time.sleep(0.05)


class ScriptedDevice:
    """The functions of `torch.accelerator` and `torch.mps` for one device, without a cache.

    `counted` names the statistics that its allocator adds to; the others stay 0.
    """

    def __init__(self, counted=COUNTED):
        self.counted = counted
        self.live_bytes = self.reads = self.emptied = 0
        self.is_lost = False
        kinds = ("current", "peak", "allocated", "freed")
        self.stats = {f"{name}.all.{kind}": 0 for name in COUNTED for kind in kinds}

    def allocate(self, size_bytes):
        self.live_bytes += size_bytes
        self._add(size_bytes, "allocated")
        return size_bytes

    def free(self, size_bytes):
        self.live_bytes -= size_bytes
        self._add(-size_bytes, "freed")

    def _add(self, size_bytes, kind):
        for name in self.counted:
            amount = size_bytes if name.endswith("_bytes") else size_bytes // abs(size_bytes)
            now = self.stats[f"{name}.all.current"] = self.stats[f"{name}.all.current"] + amount
            self.stats[f"{name}.all.{kind}"] += abs(amount)
            self.stats[f"{name}.all.peak"] = max(self.stats[f"{name}.all.peak"], now)

    def memory_stats(self, _index):
        return dict(self.stats)

    def memory_allocated(self, _index):
        return self.stats["allocated_bytes.all.current"]

    def reset_peak_memory_stats(self, _index):
        for name in COUNTED:
            self.stats[f"{name}.all.peak"] = self.stats[f"{name}.all.current"]

    def get_memory_info(self, _index):
        return (1 << 30) - self.live_bytes, 1 << 30

    def empty_cache(self):
        self.emptied += 1

    def synchronize(self, _index=0):
        if self.is_lost:
            raise torch.AcceleratorError("device-side assert\nCompile with advice")

    def current_allocated_memory(self):
        self.reads += 1
        return self.live_bytes

    def driver_allocated_memory(self):
        return self.live_bytes

    def recommended_max_memory(self):
        return 1 << 30


class ScriptedCard:
    def __init__(self, make, **script):
        self.api = ScriptedDevice(**script)
        self.backend = make(self.api)
        self.allocate, self.free = self.api.allocate, self.api.free

    def hold(self):
        """Until somebody who looks all the time has looked, if there is anybody."""
        deadline, seen = time.monotonic() + 10, self.api.reads
        while any(thread.name == THREAD for thread in threading.enumerate()):
            if self.api.reads > seen + 1:  # the first may have begun before
                return
            assert time.monotonic() < deadline, "nobody looks"
            time.sleep(0.001)


def xpu(api):
    return AcceleratorBackend(XPU, "Scripted XPU", api)


def mps(api):
    return MpsBackend(api=api)


SCRIPTED = {
    "accelerator": (xpu, COUNTED),
    # as XPU's allocator has them: bytes only
    "bytes alone": (xpu, ("allocated_bytes", "requested_bytes", "reserved_bytes")),
    "mps": (mps, COUNTED),
}


@pytest.fixture(params=SCRIPTED)
def scripted(request):
    make, counted = SCRIPTED[request.param]
    card = ScriptedCard(make, counted=counted)
    yield card
    card.backend.rest()


class TestScripted(Contract):
    @pytest.fixture
    def card(self, scripted):
        return scripted

    def test_a_lost_device_is_told_by_its_first_line(self, card):
        card.api.is_lost = True
        with pytest.raises(DeviceLostError, match=r"lost: device-side assert$"):
            card.backend.synchronize()

    def test_what_is_unused_is_given_up(self, card):
        card.backend.release_unused()
        assert card.api.emptied == 1

    def test_the_capacity_is_the_devices(self, card):
        assert card.backend.capacity_bytes() == 1 << 30


class TestFound(Contract):
    @pytest.fixture(params=[0, 1])
    def card(self, request):
        found = find_backends()  # not while the module is imported: a card may be pretended then
        if request.param >= len(found):
            pytest.skip(f"no device {request.param} to measure on")
        card = TorchCard(found[request.param])
        card.backend.warm_up()
        yield card
        card.backend.rest()


def test_as_many_are_found_as_torch_has():
    assert len(find_backends()) == torch.accelerator.device_count()


def test_what_an_allocator_does_not_count_is_not_known():
    card = ScriptedCard(xpu, counted=("allocated_bytes",))
    card.allocate(SIZE_BYTES)
    peak = card.backend.peak()
    assert peak == Peak(allocated_bytes=SIZE_BYTES)
    assert card.backend.reserved_bytes() is None


def test_before_the_allocator_is_used_nothing_is_counted():
    card = ScriptedCard(xpu)
    card.api.stats = {}
    assert (card.backend.allocation_count(), card.backend.peak().allocated_bytes) == (0, 0)


def _without_statistics(index):
    raise RuntimeError("Allocator for hpu is not a DeviceAllocator.")


@pytest.mark.parametrize(
    "script",
    [{}, {"memory_stats": _without_statistics}],
    ids=["counts nothing", "is no DeviceAllocator"],
)
def test_an_accelerator_without_peaks_is_not_measured_as_zero(found_by, script):
    with pytest.raises(MemreqError, match="Card 0 keeps no peak of memory that torch can read"):
        found_by(ScriptedDevice(counted=()), **script)


def test_every_device_of_an_accelerator_is_found_the_current_one_first(found_by):
    api = ScriptedDevice()
    api.allocate(SIZE_BYTES)
    found = found_by(api, device_count=lambda: 3, current_device_index=lambda: 1)
    assert [backend.index for backend in found] == [1, 0, 2]
    assert [backend.card_name() for backend in found] == ["Card 1", "Card 0", "Card 2"]


@pytest.mark.parametrize("kind", ["cpu", "cuda", "mps", None])
def test_what_other_backends_measure_is_not_found_twice(found_by, kind):
    device = kind and torch.device(kind)
    assert found_by(ScriptedDevice(), current_accelerator=lambda **_: device) == ()


@pytest.fixture
def found_by(monkeypatch):
    """What the finder makes of a scripted device; tensors on `meta` take nothing."""
    module = SimpleNamespace(get_device_name=lambda index: f"Card {index}")
    monkeypatch.setattr(torch, "get_device_module", lambda _: module)
    usual = {
        "current_accelerator": lambda **_: torch.device("meta"),
        "current_device_index": lambda: 0,
        "device_count": lambda: 1,
    }

    def find(api, **script):
        vars(api).update(usual | script)
        return find_accelerators(api)

    return find


def test_the_capacity_is_not_known_before_torch_had_a_function_for_it():
    assert AcceleratorBackend(XPU, "old", object()).capacity_bytes() is None


def samplers():
    return [thread for thread in threading.enumerate() if thread.name == THREAD]


def test_mps_samples_from_the_first_reset_until_it_rests():
    backend = mps(ScriptedDevice())
    assert samplers() == []
    backend.reset_peaks()
    backend.reset_peaks()
    assert len(samplers()) == 1
    backend.rest()
    backend.rest()
    assert samplers() == []


def test_mps_says_that_its_peaks_are_samples():
    assert mps(ScriptedDevice()).notes() == (
        "peaks on MPS are samples, one every ms: the true ones may be higher",
    )


def test_mps_has_the_drivers_figure_for_reserved_and_none_for_requested():
    card = ScriptedCard(mps)
    card.allocate(SIZE_BYTES)
    assert card.backend.peak() == Peak(allocated_bytes=SIZE_BYTES, reserved_bytes=SIZE_BYTES)
