"""Peaks of a device that a test cannot spoil: resets, segments set aside, pauses, limits."""

import pytest
import torch

from pytest_memreq.holdings import LiveBlock
from pytest_memreq.measure.backends import Aside, Backend, Segment
from pytest_memreq.measure.backends.resets import Resets
from pytest_memreq.measure.card import CardMeter
from pytest_memreq.requirement import Peak, Refusal

SEGMENT_BYTES = 100


class Device(Backend):
    """Blocks by key; a segment that is set aside is filled up to 100 bytes."""

    def __init__(self):
        self.blocks = {}
        self.most = self.count = 0
        self.limit = self.refused = None
        self.fillers = ()

    def put(self, key, size_bytes):
        self.blocks[key] = size_bytes
        self.count += 1
        self.most = max(self.most, self.allocated_bytes())
        return block(key, size_bytes)

    def come_and_go(self, size_bytes):
        self.put("passing", size_bytes)
        del self.blocks["passing"]

    def device(self):
        return torch.device("cpu")

    def card_name(self):
        return "card"

    def capacity_bytes(self):
        return 10_000

    def synchronize(self):
        pass

    def release_unused(self):
        pass

    def reset_peaks(self):
        self.most = self.allocated_bytes()
        self.refused = None

    def peak(self):
        return Peak(allocated_bytes=self.most, reserved_bytes=self.most)

    def allocated_bytes(self):
        return sum(self.blocks.values())

    def allocation_count(self):
        return self.count

    def cap(self, limit_bytes):
        self.limit = limit_bytes
        return True

    def refusal(self):
        return self.refused

    def set_aside(self, keys):
        for filler in self.fillers:
            del self.blocks[filler.key]
        self.fillers = tuple(
            self.put(f"filler of {key}", SEGMENT_BYTES - self.blocks[key]) for key in sorted(keys)
        )
        return Aside(
            fillers=self.fillers,
            segments=tuple(Segment(bytes=SEGMENT_BYTES, keys=frozenset([key])) for key in keys),
        )


def block(key, size_bytes):
    return LiveBlock(key=key, block_bytes=size_bytes, requested_bytes=size_bytes)


@pytest.fixture
def device():
    return Device()


@pytest.fixture
def meter(device):
    meter = CardMeter(device)
    meter.prepare()
    return meter


def peaks(meter, *left, others=None):
    keys = frozenset(b.key for b in left) if others is None else others
    found = meter.peak(0, left, keys)
    return found.peak.allocated_bytes, found.peak.reserved_bytes


def test_fillers_and_segments_of_others_count_for_nobody(device, meter):
    theirs = device.put("theirs", 30)
    meter.set_aside([theirs])
    meter.start()
    device.come_and_go(50)
    assert peaks(meter, theirs) == (50, 50)
    assert meter.peak(0, [theirs], {"theirs"}).absolute_peak.allocated_bytes == 80


def test_what_is_set_aside_meanwhile_is_taken_off_only_from_then_on(device, meter):
    theirs = device.put("theirs", 30)
    meter.start()
    device.come_and_go(500)
    meter.set_aside([theirs])
    device.come_and_go(499)
    assert peaks(meter, theirs) == (500, 500)
    device.come_and_go(501)
    assert peaks(meter, theirs) == (501, 501)


def test_a_segment_of_a_fixture_that_is_asked_for_later_is_the_tests_own(device, meter):
    fixtures = device.put("fixture's", 30)
    meter.set_aside([fixtures])
    meter.start()
    device.come_and_go(50)
    assert peaks(meter) == (80, 150)


def test_a_segment_that_turns_out_to_be_shared_is_not_taken_off_whole(device, meter):
    theirs, fixtures = device.put("theirs", 30), device.put("fixture's", 20)
    device.set_aside = lambda keys: Aside(
        segments=(Segment(bytes=SEGMENT_BYTES, keys=frozenset(keys)),) if keys else ()
    )
    meter.set_aside([theirs, fixtures])
    meter.start()
    device.come_and_go(50)
    assert peaks(meter, theirs) == (70, 70)
    assert peaks(meter, theirs, fixtures) == (50, 0)


def test_a_segment_whose_blocks_went_away_is_nobodys_any_more(device, meter):
    theirs = device.put("theirs", 30)
    meter.set_aside([theirs])
    meter.start()
    del device.blocks["theirs"]
    assert peaks(meter, others=frozenset(["theirs"])) == (30, 100)


def test_what_happens_in_a_pause_counts_by_what_it_leaves(device, meter):
    meter.start()
    device.put("mine", 10)
    with meter.paused():
        device.come_and_go(1000)
        device.put("fixture's", 5)
        with meter.paused():
            device.come_and_go(2000)
        device.come_and_go(1000)
    device.come_and_go(3)
    assert peaks(meter) == (18, 18)


def test_a_stretch_that_begins_in_a_pause_has_its_own_peak(device, meter):
    meter.start()
    with meter.paused():
        stretch = meter.push()
        device.come_and_go(1000)
        assert meter.peak(stretch, [], ()).peak.allocated_bytes == 1000
        meter.pop(stretch)
    assert peaks(meter) == (0, 0)


def test_a_cap_leaves_room_for_whole_segments_of_others(device, meter):
    theirs = device.put("theirs", 30)
    meter.set_aside([theirs])
    meter.start()
    meter.cap(70, [theirs])
    assert device.limit == 70 + SEGMENT_BYTES
    meter.cap(None)
    assert device.limit is None


def test_a_refusal_is_told_without_fillers(device, meter):
    theirs = device.put("theirs", 30)
    meter.set_aside([theirs])
    meter.start()
    device.refused = Refusal(requested_bytes=7, allocated_bytes=device.allocated_bytes())
    peaks(meter, theirs)
    assert meter.refusal().allocated_bytes == 30


@pytest.mark.parametrize("kind", ["peaks", "counts"])
def test_resets_by_others_are_noticed_before_they_happen(monkeypatch, kind):
    log = []
    monkeypatch.setattr(torch._C, "_reset_it", log.append, raising=False)
    names = {"peaks": (), "counts": (), kind: ("_reset_it", "_is_not_in_every_torch")}
    resets = Resets(1, **names)
    tell = {"of_peaks": lambda: log.append("peaks"), "of_counts": lambda: log.append("counts")}
    with resets.noticed(**tell):
        torch._C._reset_it(1)
        torch._C._reset_it(0)
        with resets.ours():
            torch._C._reset_it(1)
    torch._C._reset_it(1)
    assert log == [kind, 1, 0, 1, 1]
