"""Baselines to test with."""

from dataclasses import fields

from hypothesis import strategies as st

from pytest_memreq.gate.baseline import DeviceClass, Entry, baseline_of
from pytest_memreq.gate.largest import Largest, Thing
from pytest_memreq.requirement import METRICS, Breakdown, Peak

H200 = DeviceClass(mode="simulated", gpu="NVIDIA H200", torch="2.13")
L4 = DeviceClass(mode="measured", gpu="NVIDIA L4", torch="2.13")

BYTES = st.integers(0, 2**63 - 1)
MAYBE = st.none() | st.text(max_size=5)
PEAKS = st.builds(Peak, **{f"{m}_bytes": st.none() | BYTES for m in METRICS}).filter(
    lambda peak: peak != Peak()
)
BREAKDOWNS = st.builds(Breakdown, **{field.name: st.none() | BYTES for field in fields(Breakdown)})
THINGS = st.builds(
    Thing,
    category=st.sampled_from(["activations", "parameters"]),
    module=MAYBE,
    shape=st.none() | st.lists(st.integers(0, 9), max_size=3).map(tuple),
    dtype=MAYBE,
    bytes=BYTES,
)
DEVICES = st.builds(
    DeviceClass,
    mode=st.sampled_from(["simulated", "measured"]),
    gpu=MAYBE,
    torch=st.none() | st.sampled_from(["2.9", "2.12", "2.13", "3.0"]),
    allocator=MAYBE,
    world_size=st.integers(1, 3),
)
ENTRIES = st.builds(
    Entry,
    nodeid=st.text(max_size=8),
    device=DEVICES,
    peak=PEAKS,
    breakdown=st.none() | BREAKDOWNS,
    largest=st.builds(
        Largest,
        things=st.lists(THINGS, max_size=3, unique_by=lambda thing: thing.order).map(
            lambda things: tuple(sorted(things, key=lambda thing: thing.order))
        ),
        rest_bytes=st.none() | BYTES,
    ),
)
BASELINES = st.lists(ENTRIES, max_size=4).map(baseline_of)


def entry(nodeid="test_a.py::test_a", allocated_bytes=1000, device=H200, **other):
    """An entry of which allocated is known."""
    return Entry(nodeid=nodeid, device=device, peak=Peak(allocated_bytes=allocated_bytes), **other)
