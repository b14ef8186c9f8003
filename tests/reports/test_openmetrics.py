"""OpenMetrics: as the parser of Prometheus's own client reads it."""

import re
import shlex
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from pytest_memreq.gate.baseline import Before
from pytest_memreq.gate.verdict import VERDICT_WORDS
from pytest_memreq.reports.openmetrics import LABEL_CHARACTERS, render
from pytest_memreq.reports.text import digest
from pytest_memreq.requirement import Breakdown, Peak
from pytest_memreq.results import Environment, Results, TestResult
from tests.reports.hostile import NAMES

TEST = TestResult(
    nodeid="test_a.py::test_a",
    mode="simulated",
    gpu="NVIDIA H200",
    verdict="within",
    reason="as it is",
    peak=Peak(requested_bytes=0, allocated_bytes=2**40 + 1),
    budget={"allocated_bytes": 2**41},
    baseline=Before(peak=Peak(allocated_bytes=7)),
    breakdown=Breakdown(activations_bytes=5, buffers_bytes=0),
)


def read(results):
    """(name, labels) to value, and the families."""
    families = list(text_string_to_metric_families(render(results)))
    samples = [sample for family in families for sample in family.samples]
    found = {(each.name, *sorted(each.labels.items())): each.value for each in samples}
    assert len(found) == len(samples)
    return found, families


def of(name, **labels):
    common = {"test": TEST.nodeid, "mode": "simulated", "gpu": "NVIDIA_H200"}
    return (name, *sorted({**common, **labels}.items()))


def test_every_figure_that_is_known_and_no_other():
    found, families = read(Results(tests=(TEST,)))
    assert {key: value for key, value in found.items() if key[0] != "memreq_tests"} == {
        ("memreq_complete",): 1,
        of("memreq_peak_bytes", metric="requested"): 0,
        of("memreq_peak_bytes", metric="allocated"): 2**40 + 1,
        of("memreq_budget_bytes", metric="allocated"): 2**41,
        of("memreq_baseline_bytes", metric="allocated"): 7,
        of("memreq_breakdown_bytes", word="activations"): 5,
        of("memreq_breakdown_bytes", word="buffers"): 0,
    }
    units = {each.name: each.unit for each in families}
    assert {name for name, unit in units.items() if unit == "bytes"} == {
        name for name in units if name.endswith("_bytes")
    }
    assert all(each.type == "gauge" and each.documentation for each in families)


def test_verdicts_are_counted_and_those_of_none_are_zero():
    found, _ = read(Results(tests=(TEST, replace(TEST, nodeid="b", verdict="over"))))
    counts = {word: found["memreq_tests", ("verdict", word)] for word in VERDICT_WORDS}
    assert counts == {**dict.fromkeys(VERDICT_WORDS, 0), "within": 1, "over": 1}


def test_a_run_that_did_not_finish_says_so():
    assert read(Results(status="incomplete"))[0]["memreq_complete",] == 0
    assert "memreq_complete 0\n" in render(Results(status="incomplete"))


def test_the_card_is_that_of_the_run_where_the_test_has_none_and_else_left_out():
    test = replace(TEST, gpu=None, mode=None)
    for gpu, labels in (("L4", {"gpu": "L4"}), (None, {})):
        found, _ = read(Results(tests=(test,), environment=Environment(gpu=gpu)))
        key = ("memreq_baseline_bytes", *sorted({"test": TEST.nodeid, **labels}.items()))
        assert found[(key[0], *sorted([*key[1:], ("metric", "allocated")]))] == 7


def test_the_same_series_is_there_once_and_long_names_stay_apart():
    later = replace(TEST, peak=Peak(allocated_bytes=3))
    found, _ = read(Results(tests=(TEST, later)))
    assert found[of("memreq_peak_bytes", metric="allocated")] == 3
    tests = [replace(TEST, nodeid="x" * 5000 + end) for end in "ab"]
    found, _ = read(Results(tests=tuple(tests)))
    assert sum(key[0] == "memreq_budget_bytes" for key in found) == 2


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_hostile_names_are_read_back_as_one_label(name):
    text = render(Results(tests=(replace(TEST, nodeid=name, gpu=name),)))
    lines = text.splitlines()
    assert text.encode().decode() == text
    assert all(line.isprintable() for line in lines)
    assert lines[-1] == "# EOF"
    found, _ = read(Results(tests=(replace(TEST, nodeid=name),)))
    tests = {
        dict(labels).get("test", "") for family, *labels in found if family == "memreq_peak_bytes"
    }
    is_safe = re.fullmatch(r"[\w./:\[\]-]*", name, re.ASCII) and len(name) <= LABEL_CHARACTERS
    (shown,) = tests
    assert shown == name if is_safe else shown.endswith(f"-{digest(name)}")


def as_gitlab(text):
    """Names to values, as `Gitlab::Ci::Parsers::Metrics::Generic` reads a report."""
    lines = (shlex.split(re.sub("#.*", "", line)) for line in text.splitlines())
    read = [line for line in lines if line]
    assert all(len(line) == 2 for line in read)
    found = {name: float(value) for name, value in read}
    assert len(found) == len(read)
    return found


@given(st.lists(st.text(max_size=8) | st.sampled_from(NAMES), max_size=4, unique=True))
@settings(max_examples=60)
def test_gitlab_reads_the_same_figures_whatever_the_names(names):
    tests = [replace(TEST, nodeid=f"t{name}", gpu=name) for name in names]
    results = Results(tests=tuple(tests), environment=Environment(gpu=names[0] if names else None))
    found = as_gitlab(render(results))
    peaks = [value for name, value in found.items() if name.startswith("memreq_peak_bytes{")]
    assert sorted(peaks) == sorted([0, 2**40 + 1] * len(names))
    assert len(found) == sum(len(each.samples) for each in read(results)[1])


def test_tests_whose_names_differ_in_what_is_replaced_stay_apart():
    names = ["t[a b]", "t[a_b]", "t[a#b]", 't[a"b]', "t[a\tb]", "t[a_b]-0123456789ab"]
    found, _ = read(Results(tests=tuple(replace(TEST, nodeid=name) for name in names)))
    assert sum(key[0] == "memreq_budget_bytes" for key in found) == len(names)
    assert of("memreq_budget_bytes", metric="allocated", test="t[a_b]") in found


@given(st.lists(st.text(max_size=8), max_size=4))
@settings(max_examples=60)
def test_any_names_are_valid(names):
    read(Results(tests=tuple(replace(TEST, nodeid=name, gpu=name) for name in names)))
