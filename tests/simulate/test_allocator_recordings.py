"""The allocator's model against what real builds of torch did, address by address."""

import gzip
import json
from pathlib import Path

import pytest

from benchmarks.allocator_recordings import CASES, replayed
from pytest_memreq.simulate.allocator import Allocator, parse_settings
from pytest_memreq.simulate.allocator.memory import Driver

HERE = Path(__file__).parent
TRACES = HERE.parents[2] / "shared" / "data" / "traces"


@pytest.mark.parametrize("name", CASES)
def test_random_scripts_go_as_in_the_real_allocator(name):
    """Settings, streams, garbage collection and a full card: all addresses and statistics."""
    case = CASES[name]
    offsets, statistics = replayed(case)
    assert [offset is None for offset in offsets] == [o is None for o in case["offsets"]]
    assert offsets == case["offsets"]
    assert statistics == case["stats"]


class Recorded:
    """An allocator put into the state in which a recording begins; it follows its addresses."""

    def __init__(self, device, settings):
        self.next_segment = None
        driver = Driver(settings, lambda _: self.next_segment)
        self.allocator = Allocator(settings, driver)
        self.live = {}
        segments, blocks = self.at_the_start(device)
        for address, (size, stream, kind) in sorted(segments.items()):
            inside = {a: n for a, n in blocks.items() if address <= a < address + size}
            self.fill(address, size, stream, kind == "small", inside)
        self.allocator.driver.calls.clear()

    @staticmethod
    def at_the_start(device):
        """Segments and live blocks before the first event, by undoing all from the last."""
        segments = {a: (n, stream, kind) for a, n, stream, kind, *_ in device["final_segments"]}
        blocks = {
            a: (n, requested)
            for segment in device["final_segments"]
            for a, n, requested, state in segment[5]
            if state != "inactive"
        }
        for action, address, size, stream in reversed(device["events"]):
            if action == "a":
                del blocks[address]
            elif action == "f":
                blocks[address] = (None, size)
            elif action == "A":
                del segments[address]
            elif action == "F":
                segments[address] = (size, stream, "small" if size == 2 * 2**20 else "large")
        return segments, blocks

    def fill(self, address, size, stream, is_small, blocks):
        """One segment with these blocks; the gaps between them are free."""
        allocator = self.allocator
        pool = allocator._pool(is_small, stream)
        self.next_segment = address
        rest = allocator._segments.obtain(pool, size, size)
        for start, (held, requested) in sorted(blocks.items()):
            if start > rest.address:
                gap = rest
                rest = gap.cut(start - gap.address, 0)
                pool.put(gap)
            end = self.end_of(start, held, requested, is_small, blocks, address + size)
            block = rest
            rest = block.cut(end - start, 0) if end < address + size else None
            allocator._hand_out(block, requested)
            self.live[start] = block
            if rest is None:
                return
        pool.put(rest)

    @staticmethod
    def end_of(start, held, requested, is_small, blocks, end_of_segment):
        """Of a block freed before the end only the request is known: what is too little to be

        split off belongs to it.
        """
        if held is not None:
            return start + held
        end = start + -(-requested // 512) * 512
        following = min((a for a in blocks if a > start), default=end_of_segment)
        least = 512 if is_small else 2**20 + 1
        return following if following - end < least else end


def traces():
    return sorted(path.name for path in TRACES.glob("*.json.gz")) if TRACES.exists() else []


@pytest.mark.skipif(not TRACES.exists(), reason="the recordings are not here")
@pytest.mark.parametrize("name", traces() or ["none"])
def test_recordings_of_cards_replay_address_by_address(name):
    trace = json.loads(gzip.decompress((TRACES / name).read_bytes()))
    conf = trace["settings"]["PYTORCH_CUDA_ALLOC_CONF"]
    for device in trace["devices"]:
        if not device["events"]:
            continue
        recorded = Recorded(device, parse_settings(conf, tie="address"))
        allocator, freed = recorded.allocator, []
        for at, (action, address, size, stream) in enumerate(device["events"]):
            if action == "A":
                recorded.next_segment = address
            elif action == "F":
                if not freed:
                    allocator.driver.calls.clear()
                    allocator.empty_cache()
                    freed = [call[1] for call in allocator.driver.calls]
                freed.remove(address)
            elif action == "a":
                chunk = recorded.live[address] = allocator.allocate(size, stream)
                assert chunk.address == address, at
            elif action == "f":
                allocator.free(recorded.live.pop(address))
        final = sum(size for _, size, *_ in device["final_segments"])
        assert allocator.reserved_bytes == final
        used = sum(
            size
            for segment in device["final_segments"]
            for _, size, _, state in segment[5]
            if state != "inactive"
        )
        assert allocator.allocated_bytes == used
