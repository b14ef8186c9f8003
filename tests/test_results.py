"""Results: their JSON form and what they add up to."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_memreq import Breakdown, Requirement
from pytest_memreq.gate.verdict import VERDICT_WORDS
from pytest_memreq.packing.rooms import Room
from pytest_memreq.requirement import WORDS, LayerRow, Peak, RankShare, Site
from pytest_memreq.results import (
    Environment,
    RankResult,
    Results,
    Simulated,
    TestResult,
    to_json,
)

BYTES = st.none() | st.integers(0, 2**62)
SITES = st.builds(
    Site,
    bytes=st.integers(0, 2**62),
    category=st.sampled_from(WORDS),
    module=st.none() | st.text(),
    shape=st.none() | st.lists(st.integers(0, 9)).map(tuple),
)
PEAKS = st.builds(Peak, requested_bytes=BYTES, allocated_bytes=BYTES, reserved_bytes=BYTES)
TIMELINES = st.lists(st.tuples(st.integers(0, 99), st.integers(0, 2**62)), max_size=3).map(tuple)
SIMULATED = st.builds(Simulated, gpu=st.text(), peak=PEAKS, reason=st.text(), timeline=TIMELINES)
RANKS = st.builds(
    RankResult,
    rank=st.integers(0, 9),
    verdict=st.sampled_from(VERDICT_WORDS),
    reason=st.text(),
    peak=PEAKS,
)
ROOMS = st.builds(
    Room,
    card=st.integers(0, 3),
    bytes=st.integers(0, 2**40),
    waited_seconds=st.floats(0, 9),
    begun_seconds=st.floats(0, 9),
    ended_seconds=st.floats(0, 9),
)
RESULTS = st.builds(
    TestResult,
    nodeid=st.text(),
    mode=st.sampled_from([None, "measured", "simulated"]),
    verdict=st.sampled_from(VERDICT_WORDS),
    reason=st.text(),
    peak=PEAKS,
    simulated=st.none() | SIMULATED,
    budget=st.dictionaries(st.just("allocated_bytes"), st.integers(0, 2**62)),
    breakdown=st.none() | st.builds(Breakdown, **{f"{word}_bytes": BYTES for word in WORDS}),
    sites=st.lists(SITES, max_size=3).map(tuple),
    timeline=TIMELINES,
    notes=st.lists(st.text(), max_size=2).map(tuple),
    ranks=st.none() | st.lists(RANKS, max_size=2).map(tuple),
    rooms=st.lists(ROOMS, max_size=2).map(tuple),
)


@given(RESULTS)
def test_a_result_survives_its_way_through_json(result):
    raw = json.loads(json.dumps(result.to_dict()))
    assert TestResult.from_dict(raw) == result


@given(st.lists(RESULTS, max_size=5))
def test_the_summary_counts_every_test_once(tests):
    summary = Results(tests=tuple(tests)).summary()
    assert list(summary) == list(VERDICT_WORDS)
    assert sum(summary.values()) == len(tests)


def test_the_file_has_the_documented_shape():
    test = TestResult(
        nodeid="test_a.py::test_a", mode="simulated", verdict="within", reason="fits",
        peak=Peak(allocated_bytes=5), budget={"allocated_bytes": 6},
    )  # fmt: skip
    report = json.loads(to_json(Results(tests=(test,), environment=Environment(gpu="L4"))))
    assert list(report) == [
        "format",
        "status",
        "environment",
        "tests",
        "summary",
        "running",
        "together",
    ]
    assert report["format"] == 1
    assert report["status"] == "complete"
    assert {"mode", "gpu", "gpu_bytes", "torch", "cuda", "allocator", "world_size"} <= set(
        report["environment"]
    )
    (row,) = report["tests"]
    assert row["peak"] == {
        "requested_bytes": None,
        "allocated_bytes": 5,
        "reserved_bytes": None,
        "device_bytes": None,
    }
    assert row["budget"] == {"allocated_bytes": 6}
    for unknown in ("baseline", "breakdown", "held_bytes", "leaked_bytes", "ranks"):
        assert row[unknown] is None
    assert row["sites"] == []


def test_figures_that_are_no_numbers_are_never_written():
    test = TestResult(
        nodeid="a", mode=None, verdict="error", reason="", duration_seconds=float("nan")
    )
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(Results(tests=(test,)))


def test_a_breakdown_adds_up_to_what_is_known():
    breakdown = Breakdown(parameters_bytes=3, activations_bytes=4, context_bytes=None)
    needed = Requirement(ranks=(RankShare(breakdown=breakdown),), parameter_elements=2)
    assert breakdown.total_bytes == needed.total_bytes == 7
    assert dict(breakdown.items())["context"] is None


def test_a_layers_parameters_are_its_weights_and_biases():
    row = LayerRow(
        name="a", kind="Linear", output_shape=(2,), activation_elements=2,
        weight_elements=6, bias_elements=2,
    )  # fmt: skip
    assert row.parameter_elements == 8
