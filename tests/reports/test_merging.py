"""Several reports as one: nothing is lost, the worse counts, and the order does not matter."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_memreq.gate.baseline import Before
from pytest_memreq.reports.merging import Part, merge
from pytest_memreq.reports.ranks import RankPart, merge_ranks
from pytest_memreq.reports.worst import BY_SEVERITY
from pytest_memreq.requirement import Peak
from pytest_memreq.results import Environment, Results, TestResult
from tests.test_results import RESULTS

H100 = Environment(mode="measured", gpu="H100", gpu_bytes=80, torch="2.13.0")


def result(nodeid="test_a", verdict="within", allocated=5, mode="measured", **more):
    return TestResult(
        nodeid=nodeid, mode=mode, verdict=verdict, reason=f"{verdict} it is",
        peak=Peak(allocated_bytes=allocated), outcome=more.pop("outcome", "passed"), **more,
    )  # fmt: skip


def part(where, *tests, **more):
    return Part(where=where, results=Results(tests=tests, **{"environment": H100, **more}))


RUNS = st.lists(RESULTS, max_size=4, unique_by=lambda test: test.nodeid).map(
    lambda tests: Results(tests=tuple(tests), environment=H100)
)
PARTS = st.lists(st.builds(Part, where=st.sampled_from("abc"), results=RUNS), max_size=4)


@given(PARTS, st.randoms())
def test_the_order_does_not_matter(parts, random):
    shuffled = random.sample(parts, len(parts))
    assert merge(shuffled) == merge(parts)


@given(PARTS)
def test_every_test_is_there_once_and_none_is_better_than_it_was(parts):
    merged = merge(parts).results
    found = [test for each in parts for test in each.results.tests]
    assert [test.nodeid for test in merged.tests] == sorted({test.nodeid for test in found})
    for test in merged.tests:
        kinds = [each for each in found if each.nodeid == test.nodeid]
        worst = max(BY_SEVERITY.index(each.verdict) for each in kinds if each.mode == test.mode)
        assert BY_SEVERITY.index(test.verdict) >= worst


@given(RUNS)
def test_a_report_alone_stays_as_it_is(results):
    merged = merge([Part(where="a", results=results)])
    sorted_tests = tuple(sorted(results.tests, key=lambda test: test.nodeid))
    assert (merged.results.tests, merged.notices) == (sorted_tests, ())


def test_shards_make_the_whole_suite():
    merged = merge([part("b", result("test_b")), part("a", result("test_a", "over", 9))])
    assert [test.nodeid for test in merged.results.tests] == ["test_a", "test_b"]
    assert merged.results.environment == H100
    assert (merged.results.status, merged.notices) == ("complete", ())


@pytest.mark.parametrize(
    ("first", "second", "verdict", "notice"),
    [
        (result(), result(), "within", "with the same"),
        (result(), result(allocated=6), "within", "with other figures, and the worse count: with"),
        (result(), result(verdict="over"), "over", "the worse count: over"),
        (result(), result(verdict="error", mode=None), "error", "the worse count: error"),
        (result(verdict="improved"), result(), "within", "the worse count: within"),
        (result(verdict="error"), result(verdict="over"), "over", "the worse count: over"),
    ],
)
def test_of_a_test_in_two_reports_the_worse_counts(first, second, verdict, notice):
    merged = merge([part("a", first), part("b", second)])
    (test,) = merged.results.tests
    assert test.verdict == verdict
    assert test.peak.allocated_bytes == (6 if second.peak.allocated_bytes == 6 else 5)
    (line,) = merged.notices
    assert line.startswith("test_a: is in several reports (a, b), ")
    assert notice in line


def test_what_another_job_simulated_is_beside_what_was_measured():
    simulated = result(mode="simulated", allocated=10 * 2**20, gpu="H200")
    of_simulation = Environment(mode="simulated", gpu="H200", gpu_bytes=141, torch="2.13.0")
    merged = merge(
        [
            part("cpu", simulated, environment=of_simulation),
            part("gpu", result(allocated=20 * 2**20)),
        ]
    )
    (test,) = merged.results.tests
    assert (test.mode, test.peak.allocated_bytes) == ("measured", 20 * 2**20)
    assert (test.simulated.gpu, test.simulated.peak.allocated_bytes) == ("H200", 10 * 2**20)
    assert test.simulated.divergence[0].startswith("allocated was simulated as 10.00 MiB")
    environment = merged.results.environment
    assert (environment.mode, environment.gpu) == ("measured, simulated", "H100, H200")
    assert (environment.gpu_bytes, environment.torch) == (None, "2.13.0")
    assert merged.notices == ()


def test_a_worse_verdict_of_the_simulation_counts():
    simulated = result(mode="simulated", verdict="regressed", outcome="failed")
    merged = merge([part("cpu", simulated), part("gpu", result())])
    (test,) = merged.results.tests
    assert (test.mode, test.verdict, test.outcome) == ("measured", "regressed", "failed")
    assert test.reason == "simulated: regressed it is"


def test_what_is_incomplete_or_missing_makes_the_whole_incomplete():
    cut_short = part("b", status="incomplete", running=("test_x",))
    merged = merge([part("a", result()), cut_short], ["c: is missing"])
    assert merged.results.status == "incomplete"
    assert merged.results.running == ("test_x",)
    assert merged.notices == ("c: is missing", "b: is incomplete")


def ranks(*tests, **missing):
    return [
        RankPart(
            rank=rank,
            results=Results(tests=() if test is None else (test,), environment=H100),
            missing=missing.get(f"r{rank}", ""),
        )
        for rank, test in enumerate(tests)
    ]


@given(st.lists(st.none() | st.just(1) | st.just(2), min_size=1, max_size=5), st.randoms())
def test_the_order_of_ranks_does_not_matter(sizes, random):
    parts = ranks(*(None if size is None else result(allocated=size) for size in sizes))
    shuffled = random.sample(parts, len(parts))
    assert merge_ranks(shuffled, len(parts)) == merge_ranks(parts, len(parts))


@given(st.lists(st.sampled_from(BY_SEVERITY), min_size=1, max_size=4))
def test_no_rank_is_worse_than_the_verdict(words):
    merged = merge_ranks(ranks(*(result(verdict=word) for word in words)), len(words))
    (test,) = merged.tests
    assert test.verdict == max(words, key=BY_SEVERITY.index)
    assert len(test.ranks) == len(words)
    assert merged.status == "complete"


@pytest.mark.parametrize("missing", ["its process died", ""])
@pytest.mark.parametrize("word", ["improved", "within", "unchecked", "error"])
def test_without_a_rank_nothing_is_known(word, missing):
    merged = merge_ranks(ranks(result(verdict=word), None, r1=missing), 2)
    (test,) = merged.tests
    assert (test.verdict, test.outcome) == ("error", "failed")
    assert test.ranks[1].reason == (missing or "the test did not run there")
    assert merged.status == ("incomplete" if missing else "complete")


def test_what_is_known_to_be_over_stays_over():
    (test,) = merge_ranks(ranks(result(verdict="over"), None, r1="it died"), 2).tests
    assert (test.verdict, test.reason) == ("over", "rank 0 of 2: over it is")
    expected = result(verdict="over", outcome="xfailed")
    (test,) = merge_ranks(ranks(expected, None, r1="it died"), 2).tests
    assert test.outcome == "failed"


def test_the_peak_is_the_largest_of_each_metric():
    low, high = result(allocated=1), result(allocated=3)
    peaks = [replace(low.peak, reserved_bytes=9), replace(high.peak, reserved_bytes=8)]
    tests = [replace(test, peak=peak) for test, peak in zip((low, high), peaks, strict=True)]
    (test,) = merge_ranks(ranks(*tests), 2).tests
    assert test.peak == Peak(allocated_bytes=3, reserved_bytes=9)


def test_a_rank_that_moved_is_the_one_that_a_baseline_is_updated_for():
    moved = result(allocated=1, baseline=Before(verdict="regressed"))
    (test,) = merge_ranks(ranks(result(baseline=Before(verdict="within")), moved), 2).tests
    assert test.baseline.verdict == "regressed"
