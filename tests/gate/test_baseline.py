"""Which entry a test is held against, and the verdict."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_memreq.gate.baseline import (
    WORST_FIRST,
    Match,
    baseline_of,
    both,
    device_class,
    judge_baseline,
    judge_missing,
)
from pytest_memreq.gate.largest import LISTED_THINGS, Largest, Thing, largest_of
from pytest_memreq.gate.standing import Recorded, standing_of
from pytest_memreq.gate.tolerance import OF_MEASURED, OF_SIMULATED, Tolerance
from pytest_memreq.gate.verdict import VERDICT_WORDS, Verdict
from pytest_memreq.requirement import METRICS, Breakdown, Peak, Site
from tests.gate.baselines import BASELINES, BYTES, DEVICES, H200, L4, PEAKS, entry

MIB = 2**20
EXACT = Match(device=H200, entry=entry())


@pytest.mark.parametrize(
    ("torch", "minor"),
    [
        ("2.13.0+cpu", "2.13"),
        ("2.13.0a0+git1234", "2.13"),
        ("2.14.0.dev20261101+cu130", "2.14"),
        ("3.0", "3.0"),
        ("nonsense", None),
        (None, None),
    ],
)
def test_a_class_has_the_minor_version_of_torch(torch, minor):
    found = device_class(mode="measured", gpu="L4", torch=torch, allocator=" ", world_size=2)
    assert (found.torch, found.allocator, found.world_size) == (minor, None, 2)


def test_a_class_says_what_differs_from_the_usual():
    assert str(H200) == "simulated on NVIDIA H200, torch 2.13"
    other = replace(L4, allocator="expandable_segments:True", world_size=8)
    assert str(other) == (
        "measured on NVIDIA L4, torch 2.13, allocator expandable_segments:True, 8 ranks"
    )


@pytest.mark.parametrize(
    ("there", "wanted", "found"),
    [
        (["2.12", "2.13", "2.14"], "2.13", "2.13"),
        (["2.9", "2.12"], "2.13", "2.12"),
        (["2.12", "2.14"], "2.13", "2.14"),  # the newer of two as near ones
        (["2.12", "2.15"], "2.13", "2.12"),
        (["2.9", "2.10"], "2.13", "2.10"),
        (["3.0", "2.1"], "2.13", "2.1"),
        ([None, "2.1"], "2.13", "2.1"),
        ([None], "2.13", None),
        ([None, "0.0"], None, None),
    ],
)
def test_the_nearest_version_of_torch_is_found(there, wanted, found):
    entries = [entry(device=replace(H200, torch=torch)) for torch in there]
    match = baseline_of(entries).find("test_a.py::test_a", replace(H200, torch=wanted))
    assert match.entry.device.torch == found
    assert match.is_exact is (found == wanted)


@pytest.mark.parametrize(
    "other",
    [
        {"mode": "measured"},
        {"gpu": "NVIDIA L4"},
        {"gpu": None},
        {"allocator": "backend:native"},
        {"world_size": 2},
    ],
)
def test_nothing_else_may_differ(other):
    baseline = baseline_of([entry()])
    assert baseline.find("test_a.py::test_a", H200) is not None
    assert baseline.find("test_a.py::test_a", replace(H200, **other)) is None
    assert baseline.find("test_a.py::test_b", H200) is None


@given(BASELINES, DEVICES)
def test_what_is_found_is_the_tests_own_and_exact_if_there_is_one(baseline, device):
    for each in baseline.entries:
        own = baseline.find(each.nodeid, each.device)
        assert own == Match(device=each.device, entry=each)
        assert each in baseline.of_test(each.nodeid)
        match = baseline.find(each.nodeid, device)
        assert match is None or match.entry.nodeid == each.nodeid


def test_a_simulation_has_no_tolerance_on_the_same_torch_alone():
    assert EXACT.tolerance == OF_SIMULATED
    assert Match(device=replace(H200, torch="2.14"), entry=entry()).tolerance == OF_MEASURED
    assert Match(device=L4, entry=entry(device=L4)).tolerance == OF_MEASURED


@pytest.mark.parametrize(
    ("size", "word"), [(1000, "within"), (1001, "regressed"), (999, "improved")]
)
def test_every_byte_of_a_simulation_counts(size, word):
    verdict = judge_baseline(Peak(allocated_bytes=size), EXACT, EXACT.tolerance)
    assert verdict.word == word


def test_a_regression_names_metric_figures_share_and_tolerance():
    match = Match(device=L4, entry=entry(allocated_bytes=100 * MIB, device=L4))
    verdict = judge_baseline(Peak(allocated_bytes=110 * MIB), match, OF_MEASURED)
    assert verdict.reason == (
        "allocated peak 110.00 MiB (115,343,360 bytes) is +10,485,760 bytes (+10.00%) against "
        "100.00 MiB (104,857,600 bytes) in the baseline (tolerance 1 %, 2.00 MiB)"
    )


def standing(allocated_bytes, *words, missing="fail", told="now recorded"):
    recorded = Recorded(words=words, told=told)
    peak = Peak(allocated_bytes=allocated_bytes)
    return standing_of(
        baseline_of([entry()]),
        "test_a.py::test_a",
        H200,
        peak,
        said=OF_SIMULATED,
        missing=missing,
        recorded=recorded,
    )


def test_a_gain_says_how_to_take_it():
    reason = standing(900).verdict.reason
    assert "900 bytes is -100 bytes (-10.00%) against 1000 bytes" in reason.replace(",", "")
    assert reason.endswith("--memreq-update failing takes the gain into the baseline")


@pytest.mark.parametrize(("size", "word"), [(1001, "regressed"), (999, "improved")])
def test_what_is_written_passes_and_says_by_whom(size, word):
    assert standing(size, None).verdict.word == word
    found = standing(size, word, told="by me")
    assert (found.verdict.word, found.before.verdict) == ("within", word)
    assert found.verdict.reason.endswith("in the baseline; by me")


def test_another_torch_is_shown():
    match = Match(device=replace(H200, torch="2.14"), entry=entry())
    for size in (100, 1000, 10 * MIB):
        verdict = judge_baseline(Peak(allocated_bytes=size), match, match.tolerance)
        assert "the baseline of torch 2.13" in verdict.reason


@pytest.mark.parametrize(
    ("peak", "word"),
    [
        (Peak(requested_bytes=10, allocated_bytes=20, reserved_bytes=30), "within"),
        (Peak(requested_bytes=10, allocated_bytes=20, reserved_bytes=31), "regressed"),
        (Peak(requested_bytes=9, allocated_bytes=20, reserved_bytes=31), "regressed"),
        (Peak(requested_bytes=9, allocated_bytes=20, reserved_bytes=30), "improved"),
        (Peak(requested_bytes=10, allocated_bytes=20), "unchecked"),
        (Peak(requested_bytes=9, allocated_bytes=20), "unchecked"),
        (Peak(requested_bytes=11, allocated_bytes=20), "regressed"),
        (Peak(requested_bytes=10, allocated_bytes=20, reserved_bytes=30, device_bytes=1), "within"),
        (Peak(device_bytes=1), "unchecked"),
        (Peak(), "unchecked"),
    ],
)
def test_every_metric_of_the_baseline_counts(peak, word):
    before = Peak(requested_bytes=10, allocated_bytes=20, reserved_bytes=30)
    match = Match(device=H200, entry=replace(entry(), peak=before))
    assert judge_baseline(peak, match, OF_SIMULATED).word == word


def test_an_unknown_metric_says_why():
    match = Match(device=L4, entry=replace(entry(device=L4), peak=Peak(device_bytes=1)))
    verdict = judge_baseline(Peak(allocated_bytes=1), match, OF_MEASURED, {"device": "no NVML"})
    assert verdict.reason == "the device peak is in the baseline, and is not known here: no NVML"


@given(PEAKS, PEAKS, st.builds(Tolerance, percent=st.just(Decimal(1)), bytes=st.integers(0, 9)))
def test_words_are_those_of_the_figures(old, new, tolerance):
    match = Match(device=H200, entry=replace(entry(), peak=old))
    verdict = judge_baseline(new, match, tolerance)
    known = [m for m in METRICS if old.of(m) is not None and new.of(m) is not None]
    moved = {new.of(m) > old.of(m) for m in known if tolerance.is_exceeded(old.of(m), new.of(m))}
    lost = any(old.of(m) is not None and new.of(m) is None for m in METRICS)
    word = "regressed" if True in moved else "unchecked" if lost else None
    assert verdict.word == (word or ("improved" if moved else "within"))
    assert len(verdict.reason.splitlines()) == 1
    assert judge_baseline(old, match, tolerance).word == "within"


@pytest.mark.parametrize(
    ("missing", "word"), [("fail", "unchecked"), ("record", "within"), ("ignore", "within")]
)
def test_a_missing_entry_is_said(missing, word):
    verdict = judge_missing(baseline_of([]), "test_a.py::test_a", H200, missing)
    assert verdict.word == word
    assert verdict.cause == "not_in_baseline"
    assert verdict.reason.startswith("not in the baseline")


def test_a_missing_entry_names_what_there_is_for_other_devices():
    devices = [replace(L4, world_size=n) for n in (1, 2, 3, 4)]
    baseline = baseline_of([entry(device=device) for device in devices])
    assert judge_missing(baseline, "test_a.py::test_a", H200, "fail").reason == (
        "not in the baseline for simulated on NVIDIA H200, torch 2.13, nor comparable: it has "
        "measured on NVIDIA L4, torch 2.13; measured on NVIDIA L4, torch 2.13, 2 ranks; "
        "measured on NVIDIA L4, torch 2.13, 3 ranks and 1 more; --memreq-update new adds it"
    )


@given(st.sampled_from(VERDICT_WORDS), st.sampled_from(VERDICT_WORDS))
def test_of_two_verdicts_the_worse_counts_and_no_trouble_is_left_out(one, other):
    verdicts = Verdict(word=one, reason="first"), Verdict(word=other, reason="second")
    together = both(*verdicts)
    assert WORST_FIRST.index(together.word) == min(map(WORST_FIRST.index, (one, other)))
    for verdict in verdicts:
        if verdict.word != "within" or one == other == "within":
            assert verdict.reason in together.reason
    assert both(*verdicts).word == both(*reversed(verdicts)).word


def sites_of(sizes, **other):
    return [Site(bytes=n, category="activations", module=f"m{n}", **other) for n in sizes]


def test_things_are_sites_without_their_lines_and_operators():
    sites = [
        Site(bytes=5, category="activations", module="a", source=f"m.py:{n}", operator=f"op{n}")
        for n in (1, 2)
    ]
    largest = largest_of(sites, Breakdown(activations_bytes=10))
    assert largest == Largest(
        things=(Thing(category="activations", module="a", bytes=10),), rest_bytes=0
    )
    assert largest.is_whole


def test_things_stand_in_the_order_of_their_names_whatever_they_need():
    sites = [Site(bytes=n, category="other", module=f"m{n}") for n in (1, 3, 2)]
    larger = [replace(sites[0], bytes=9), *sites[1:]]
    for given_ in (sites, larger):
        modules = [thing.module for thing in largest_of(given_, None).things]
        assert modules == ["m1", "m2", "m3"]


def test_the_rest_is_what_is_not_listed():
    sizes = range(1, LISTED_THINGS + 6)
    largest = largest_of(sites_of(sizes), Breakdown(activations_bytes=sum(sizes)))
    assert sorted(thing.bytes for thing in largest.things) == list(sizes)[5:]
    assert largest.rest_bytes == 1 + 2 + 3 + 4 + 5
    assert not largest.is_whole


def test_what_is_missing_is_not_known_without_a_breakdown():
    assert largest_of(sites_of([1]), None).rest_bytes is None
    assert largest_of(sites_of([5]), Breakdown(activations_bytes=4)).rest_bytes is None
    assert largest_of([], Breakdown(activations_bytes=4)) == Largest(rest_bytes=4)


@given(
    st.lists(
        st.builds(
            Site,
            bytes=st.integers(0, 99),
            category=st.sampled_from(["activations", "other"]),
            module=st.sampled_from([None, "", "a"]),
            source=st.sampled_from(["x:1", "x:2"]),
            shape=st.sampled_from([None, (), (1,), (2, 3)]),
            dtype=st.sampled_from([None, "int8"]),
        ),
        max_size=60,
    ),
    st.randoms(),
)
def test_things_and_rest_add_up_in_any_order(sites, random):
    whole = Breakdown(activations_bytes=sum(site.bytes for site in sites))
    largest = largest_of(sites, whole)
    assert sum(thing.bytes for thing in largest.things) + largest.rest_bytes == whole.total_bytes
    assert len(largest.things) <= LISTED_THINGS
    shuffled = random.sample(sites, len(sites))
    assert largest_of(shuffled, whole) == largest


@given(BYTES)
def test_the_device_class_decides_not_the_figures(size):
    assert baseline_of([entry(allocated_bytes=size)]).find("test_a.py::test_a", L4) is None
