"""The model of the caching allocator: known sizes, settings, and what holds for every sequence."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_memreq.errors import MemreqError
from pytest_memreq.simulate.allocator import (
    Allocator,
    AllocatorSettings,
    OutOfDeviceMemory,
    parse_settings,
    tie_of,
)
from pytest_memreq.simulate.allocator.chunks import chunk_size, segment_size
from pytest_memreq.simulate.allocator.replay import Event, replay

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
    kept, gone = allocator.allocate(5 * MIB), allocator.allocate(30 * MIB)
    allocator.free(gone)
    allocator.empty_cache()
    assert allocator.reserved_bytes == 20 * MIB
    allocator.free(kept)
    allocator.empty_cache()
    assert allocator.reserved_bytes == 0


def test_streams_do_not_share_memory():
    allocator = Allocator()
    allocator.free(allocator.allocate(5 * MIB, stream=1))
    allocator.allocate(5 * MIB, stream=2)
    assert allocator.reserved_bytes == 40 * MIB


def test_what_another_stream_reads_is_free_when_it_has_been_read():
    allocator = Allocator()
    allocator.are_events_ready = False
    chunk = allocator.allocate(30 * MIB)
    allocator.free(chunk, is_read_elsewhere=True)
    assert (allocator.allocated_bytes, allocator.active_bytes) == (0, 30 * MIB)
    allocator.allocate(30 * MIB)
    assert allocator.reserved_bytes == 60 * MIB
    allocator.complete_events()
    assert allocator.active_bytes == 30 * MIB
    allocator.allocate(30 * MIB)
    assert allocator.reserved_bytes == 60 * MIB


def test_a_full_card_releases_its_cache_before_it_gives_up():
    allocator = Allocator(AllocatorSettings(card_bytes=100 * MIB, context_bytes=10 * MIB))
    cached, kept = allocator.allocate(30 * MIB), allocator.allocate(40 * MIB)
    allocator.free(cached)
    assert allocator.allocate(50 * MIB).size_bytes == 50 * MIB
    assert (allocator.retries, allocator.failures) == (1, 0)
    with pytest.raises(OutOfDeviceMemory) as error:
        allocator.allocate(2 * MIB)
    assert error.value.requested_bytes == 2 * MIB
    assert error.value.reserved_bytes == 90 * MIB
    assert (allocator.retries, allocator.failures) == (2, 1)
    allocator.free(kept)
    assert allocator.allocate(2 * MIB).size_bytes == 2 * MIB


SIZES = st.lists(st.integers(1, 64 * MIB) | st.integers(-40, -1) | st.just(0), max_size=80)
SETTINGS = st.sampled_from(
    [
        "",
        "expandable_segments:True",
        "max_split_size_mb:32",
        "roundup_power2_divisions:4",
        "large_segment_size_mb:40",
    ]
)


@given(script=SIZES, conf=SETTINGS, tie=st.sampled_from(["address", "chunk", "segment"]))
def test_whatever_happens_memory_is_handed_out_once_and_all_of_it_comes_back(script, conf, tie):
    """Positive: allocate; negative: free that one of the live ones; 0: empty the cache."""
    allocator = Allocator(parse_settings(conf, tie=tie, card_bytes=2**34))
    live = []
    for step in script:
        if step > 0:
            live.append(allocator.allocate(step))
            assert live[-1].size_bytes >= step
        elif step < 0 and -step <= len(live):
            allocator.free(live.pop(step))
        elif step == 0:
            allocator.empty_cache()
        spans = sorted((chunk.address, chunk.address + chunk.size_bytes) for chunk in live)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
        assert allocator.allocated_bytes == sum(chunk.size_bytes for chunk in live)
        assert allocator.allocated_bytes <= allocator.reserved_bytes
    for chunk in live:
        allocator.free(chunk)
    allocator.empty_cache()
    assert allocator.reserved_bytes == allocator.allocated_bytes == allocator.active_bytes == 0
    assert allocator.requested_bytes == allocator.inactive_split_bytes == 0


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("", {}),
        ("max_split_size_mb:128", {"max_split_bytes": 128 * MIB}),
        (
            "garbage_collection_threshold:0.8, expandable_segments:True",
            {"garbage_collection_threshold": 0.8, "expandable_segments": True},
        ),
        ("roundup_power2_divisions:8", {"roundup_divisions": (8,) * 16}),
        (
            "roundup_power2_divisions:[256:1,512:2,1024:4,>:8],max_split_size_mb:64",
            {
                "roundup_divisions": (*[1] * 9, 2, 4, *[8] * 5),
                "max_split_bytes": 64 * MIB,
            },
        ),
        ("roundup_power2_divisions:[4:2,>:0]", {"roundup_divisions": (2, 2, 2, *[0] * 13)}),
        ("large_segment_size_mb:40", {"large_segment_bytes": 40 * MIB}),
        ("per_process_memory_fraction:0.5", {"memory_fraction": 0.5}),
        ("backend:native,pinned_use_cuda_host_register:True", {}),
        ("release_lock_on_cudamalloc:True", {}),
    ],
)
def test_settings_are_read_as_torch_reads_them(text, fields):
    assert parse_settings(text, card_bytes=3) == AllocatorSettings(card_bytes=3, **fields)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_split_size_mb", "is not key:value,key:value"),
        ("max_split_size_mb:", "is not key:value,key:value"),
        ("max_split_size_mb:128;x:1", "max_split_size_mb:128;x:1: invalid literal"),
        ("max_split_size_mb:10", "max_split_size_mb:10: must be 20 or more"),
        ("garbage_collection_threshold:1", "must be between 0 and 1"),
        ("per_process_memory_fraction:2", "must be above 0 and at most 1"),
        ("expandable_segments:yes", "must be True or False"),
        ("roundup_power2_divisions:3", "must be a power of two"),
        ("roundup_power2_divisions:[3:2]", "must be a power of two"),
        ("backend:cudaMallocAsync", "backend:cudaMallocAsync is not simulated; known are max_sp"),
        ("max_splat:1", "max_splat:1 is not simulated; known are max_split_size_mb"),
    ],
)
def test_what_is_no_setting_is_one_line(text, said):
    with pytest.raises(MemreqError) as error:
        parse_settings(text)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("version", "tie"),
    [((2, 9), "address"), ((2, 11), "address"), ((2, 12), "chunk"), ((2, 13), "segment")],
)
def test_versions_differ_in_which_of_equal_chunks_is_taken(version, tie):
    assert tie_of(version) == tie


@given(st.integers(1, 2**36), st.sampled_from([1, 2, 4, 8]))
def test_a_size_is_rounded_to_the_next_division(size, parts):
    rounded = chunk_size(size, (parts,) * 16)
    assert rounded >= size
    if parts > 1 and size > 512 * parts:
        floor = 1 << (size.bit_length() - 1)
        assert rounded in {floor + floor * step // parts for step in range(parts + 1)}
        assert rounded - size < floor // parts
    else:
        assert rounded == max(-(-size // 512) * 512, 512)


def test_segments_are_of_the_kind_of_the_request():
    sizes = [segment_size(size, 20 * MIB) for size in (512, MIB, MIB + 512, 10 * MIB, 11 * MIB + 1)]
    assert sizes == [2 * MIB, 2 * MIB, 20 * MIB, 10 * MIB, 12 * MIB]


def test_a_replay_gives_peaks_the_way_there_and_where_it_failed():
    events = [
        Event("allocate", 0, 30 * MIB),
        Event("allocate", 1, 100, stream=1),
        Event("read_elsewhere", 0),
        Event("free", 0),
        Event("allocate", 2, 30 * MIB),
        Event("events_complete"),
        Event("empty_cache"),
        Event("allocate", 3, 80 * MIB),
        Event("allocate", 4, 1),
    ]
    found = replay(events, AllocatorSettings(card_bytes=100 * MIB))
    assert found.failed_at == 7
    assert found.timeline == (
        (30 * MIB, 30 * MIB),
        (30 * MIB + 512, 32 * MIB),
        (30 * MIB + 512, 32 * MIB),
        (512, 32 * MIB),
        (30 * MIB + 512, 62 * MIB),
        (30 * MIB + 512, 62 * MIB),
        (30 * MIB + 512, 32 * MIB),
    )
    assert found.peak.reserved_bytes == 62 * MIB
    assert found.peak.allocated_bytes == 30 * MIB + 512
    assert found.peak.requested_bytes == 60 * MIB + 100
    assert [given for given, *_ in found.driver_calls] == [True, True, True, False]
    assert replay(events).failed_at is None
