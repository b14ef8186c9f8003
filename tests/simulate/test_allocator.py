"""The model of the caching allocator: known sizes, and what holds for every sequence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_memreq.simulate.allocator import Allocator, segment_size

KIB, MIB = 2**10, 2**20


@pytest.mark.parametrize(
    ("requested_bytes", "block_bytes", "reserved_bytes"),
    [
        (1, 512, 2 * MIB),
        (512, 512, 2 * MIB),
        (513, 1024, 2 * MIB),
        (MIB, MIB, 2 * MIB),
        (MIB + 1, MIB + 512, 20 * MIB),
        (10 * MIB - 1, 10 * MIB, 10 * MIB),  # rounded up first, so it has a segment of its own
        (100_000_000, 100_663_296, 100_663_296),  # all of the segment: under 1 MiB would remain
        (19 * MIB, 20 * MIB, 20 * MIB),
    ],
)
def test_block_and_segment_of_a_single_request(requested_bytes, block_bytes, reserved_bytes):
    allocator = Allocator()
    assert allocator.allocate(requested_bytes).size_bytes == block_bytes
    assert allocator.reserved_bytes == reserved_bytes


def test_freed_memory_is_used_again_and_segments_are_kept():
    allocator = Allocator()
    first = allocator.allocate(5 * MIB)
    allocator.free(first)
    assert allocator.allocate(6 * MIB).address == first.address
    assert allocator.reserved_bytes == 20 * MIB


def test_neighbours_merge_so_that_a_larger_request_fits():
    allocator = Allocator()
    chunks = [allocator.allocate(5 * MIB) for _ in range(4)]
    for position in (1, 3, 2, 0):
        allocator.free(chunks[position])
    assert allocator.allocate(20 * MIB).size_bytes == 20 * MIB
    assert allocator.reserved_bytes == 20 * MIB


def test_the_smallest_fitting_chunk_is_taken():
    allocator = Allocator()
    wide = allocator.allocate(8 * MIB)
    allocator.allocate(2 * MIB)
    narrow = allocator.allocate(4 * MIB)
    allocator.allocate(2 * MIB)
    allocator.free(wide)
    allocator.free(narrow)
    assert allocator.allocate(4 * MIB).address == narrow.address


def test_emptying_the_cache_releases_whole_segments_only():
    allocator = Allocator()
    kept, gone = allocator.allocate(3 * MIB), allocator.allocate(50 * MIB)
    allocator.free(gone)
    allocator.empty_cache()
    assert allocator.reserved_bytes == 20 * MIB
    allocator.free(kept)
    allocator.empty_cache()
    assert allocator.reserved_bytes == 0


@given(
    st.lists(st.tuples(st.integers(1, 64 * MIB), st.integers(0, 10**6)), min_size=1, max_size=60)
)
def test_live_blocks_never_overlap_and_reserved_covers_them(steps):
    allocator = Allocator()
    live = []
    for size_bytes, choice in steps:
        if live and choice % 3 == 0:
            allocator.free(live.pop(choice % len(live)))
        live.append(allocator.allocate(size_bytes))
        assert live[-1].size_bytes >= size_bytes
        spans = sorted((chunk.address, chunk.size_bytes) for chunk in live)
        ends = [address + size for address, size in spans]
        assert all(end <= start for end, (start, _) in zip(ends, spans[1:], strict=False))
        assert sum(chunk.size_bytes for chunk in live) <= allocator.reserved_bytes
    for chunk in live:
        allocator.free(chunk)
    allocator.empty_cache()
    assert allocator.reserved_bytes == 0


@given(st.integers(512, 2**40))
def test_a_segment_holds_the_request_it_was_obtained_for(size_bytes):
    assert size_bytes <= segment_size(size_bytes) <= max(20 * MIB, size_bytes + 2 * MIB)
