"""JUnit: valid whatever the names, and read as what it says by others' parsers."""

from itertools import product
from pathlib import Path
from xml.etree import ElementTree as ET

import junitparser
import pytest
import xmlschema
from hypothesis import given, settings
from hypothesis import strategies as st
from junitparser import xunit2
from lxml import etree
from test_results_parser import parse_junit_xml

from pytest_memreq.choices import JUNIT_FAMILIES
from pytest_memreq.gate.baseline import Before, DeviceClass
from pytest_memreq.gate.verdict import VERDICT_WORDS
from pytest_memreq.reports.junit import render
from pytest_memreq.requirement import Breakdown, Peak, Site
from pytest_memreq.results import Environment, Results, TestResult
from tests.reports.hostile import NAMES

XSD = Path(__file__).with_name("junit-10.xsd")
LXML_SCHEMA = etree.XMLSchema(etree.parse(str(XSD)))
SCHEMA = xmlschema.XMLSchema(str(XSD))
OUTCOMES = ("passed", "failed", "skipped", "xfailed", "xpassed")
SECONDS = [float("nan"), float("inf"), -1.0, 0.0, 1e-7, 12.3456, 1e9, 1e300]


def result(name="test_a.py::test_a", verdict="within", outcome="passed", **more):
    site = Site(bytes=7, category="activations", module=name, source=f"{name}:1")
    return TestResult(
        nodeid=name,
        mode="simulated",
        verdict=verdict,
        reason=more.pop("reason", f"because of {name}"),
        outcome=outcome,
        peak=Peak(allocated_bytes=7),
        peak_at=name,
        breakdown=Breakdown(activations_bytes=7),
        sites=(site,),
        **more,
    )


def checked(tests, **more):
    text = render(Results(tests=tuple(tests), **more))
    assert LXML_SCHEMA.validate(etree.fromstring(text.encode())), LXML_SCHEMA.error_log
    SCHEMA.validate(text)
    return ET.fromstring(text)


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_hostile_names_are_valid_with_every_verdict(name):
    tests = [
        result(name, verdict, outcome, file=name)
        for verdict in VERDICT_WORDS
        for outcome in OUTCOMES
    ]
    root = checked(tests, environment=Environment(gpu=name, allocator=name))
    assert len(root.findall("testsuite/testcase")) == len(tests)
    text = ET.tostring(root, encoding="unicode")
    assert "[[ATTACHMENT|" not in text
    assert "##vso[" not in text


@given(st.lists(st.text(), max_size=4))
@settings(max_examples=60)
def test_any_names_are_valid(names):
    checked([result(name, "over", "failed") for name in names])


@pytest.mark.parametrize("seconds", SECONDS)
def test_any_duration_is_a_valid_time(seconds):
    root = checked([result(duration_seconds=seconds)])
    assert float(root.find("testsuite/testcase").get("time")) > 0


@pytest.mark.parametrize(
    ("verdict", "outcome", "tag"),
    [
        ("within", "passed", None),
        ("within", "xpassed", None),
        ("improved", "passed", None),
        ("improved", "failed", "failure"),
        ("within", "xfailed", "skipped"),
        ("unchecked", "passed", "failure"),
        ("over", "failed", "failure"),
        ("regressed", "failed", "failure"),
        ("unchecked", "failed", "failure"),
        ("error", "failed", "error"),
        ("over", "xfailed", "skipped"),
        ("unchecked", "skipped", "skipped"),
    ],
)
def test_a_verdict_is_told_with_message_and_text(verdict, outcome, tag):
    test = result(
        verdict=verdict, outcome=outcome, reason="9 bytes over", budget={"allocated_bytes": 9}
    )
    root = checked([test])
    case = root.find("testsuite/testcase")
    told = [child.tag for child in case]
    assert told == ([] if tag is None else [tag])
    is_told = verdict in ("over", "regressed", "improved")
    figures = "" if is_told else ", allocated peak 7 bytes, budget 9 bytes"
    for child in case:
        assert child.get("message") == f"{verdict}{figures}: 9 bytes over"
        assert child.text.splitlines()[0].endswith(child.get("message"))
        assert "9 bytes over" in child.text
        assert "activations" in child.text
    count = {"failure": "failures", "error": "errors"}.get(tag)
    for element in (root, root.find("testsuite")):
        assert element.get("failures") == ("1" if count == "failures" else "0")
        assert element.get("errors") == ("1" if count == "errors" else "0")


@pytest.mark.parametrize(
    ("nodeid", "classname", "name"),
    [
        ("tests/test_a.py::test_a", "memreq.tests.test_a", "test_a"),
        ("tests/test_a.py::TestX::test_a", "memreq.tests.test_a.TestX", "test_a"),
        ("test_a.py::TestX::test_a[b::c]", "memreq.test_a.TestX", "test_a[b::c]"),
    ],
)
def test_a_case_is_named_by_module_and_function(nodeid, classname, name):
    case = checked([result(nodeid)]).find("testsuite/testcase")
    assert (case.get("classname"), case.get("name")) == (classname, name)


@pytest.mark.parametrize(
    ("known", "figures"),
    [
        ({}, "error: it broke"),
        ({"peak": Peak(reserved_bytes=5)}, "error: it broke"),
        ({"budget": {"allocated_bytes": 2048}}, "error, budget 2.00 KiB (2,048 bytes): it broke"),
        (
            {"budget": {"reserved_bytes": 6}, "peak": Peak(reserved_bytes=5)},
            "error, reserved peak 5 bytes, budget 6 bytes: it broke",
        ),
    ],
)
def test_figures_that_the_reason_does_not_have_come_before_it(known, figures):
    test = TestResult(nodeid="a", mode=None, verdict="error", reason="it broke", **known)
    assert checked([test]).find(".//error").get("message") == figures


def as_junitparser(text, flavour=junitparser):
    [suite] = flavour.JUnitXml.fromstring(text.encode())
    counts = {"failed": suite.failures, "error": suite.errors, "skipped": suite.skipped}
    return [outcome_of(case) for case in suite], counts


def as_xunit2(text):
    return as_junitparser(text, xunit2)


def outcome_of(case):
    [outcome] = [
        name
        for name, is_so in (
            ("passed", case.is_passed),
            ("failed", case.is_failure),
            ("error", case.is_error),
            ("skipped", case.is_skipped),
        )
        if is_so
    ]
    return outcome


def as_codecov(text):
    names = {"pass": "passed", "failure": "failed", "skip": "skipped", "error": "error"}
    read = parse_junit_xml(text.encode()).testruns
    outcomes = [names[str(run.outcome)] for run in read]
    assert all(run.failure_message for run in read if str(run.outcome) == "failure")
    return outcomes, {name: outcomes.count(name) for name in ("failed", "error", "skipped")}


def expected_of(test):
    if test.outcome in ("skipped", "xfailed"):
        return "skipped"
    if test.verdict == "error":
        return "error"
    is_good = test.verdict in ("within", "improved") and test.outcome != "failed"
    return "passed" if is_good else "failed"


READERS = [as_junitparser, as_xunit2, as_codecov]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_other_parsers_read_what_happened(name):
    """Whatever the name: every case is there, and none that failed or was not checked passed."""
    tests = [
        result(name, verdict, outcome, file=name, line=1, duration_seconds=SECONDS[n % 8])
        for n, (verdict, outcome) in enumerate(product(VERDICT_WORDS, OUTCOMES))
    ]
    texts = [render(Results(tests=tuple(tests)), family) for family in JUNIT_FAMILIES]
    for text, read in product(texts, READERS):
        outcomes, counts = read(text)
        assert outcomes == [*map(expected_of, tests)]
        assert counts == {each: outcomes.count(each) for each in counts}
        assert outcomes.count("passed") == 4  # within and improved, passed and xpassed


@pytest.mark.parametrize("read", READERS)
def test_a_reason_of_nothing_is_no_pass(read):
    tests = [result("", verdict, "failed", reason="") for verdict in VERDICT_WORDS]
    assert "passed" not in read(render(Results(tests=tuple(tests))))[0]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_the_extended_family_is_the_strict_one_and_more(name):
    tests = (result(name, file=name, line=7), result("b", "over", "failed"))
    results = Results(tests=tests, environment=Environment(gpu=name), status="incomplete")
    extended = ET.fromstring(render(results, "extended"))
    for case in extended.iter("testcase"):
        case.attrib.pop("file", None)
        case.attrib.pop("line", None)
        for properties in case.findall("properties"):
            case.remove(properties)
    assert ET.tostring(extended) == ET.tostring(ET.fromstring(render(results)))


def test_the_extended_family_has_place_and_figures_of_a_case():
    device = DeviceClass(mode="simulated", gpu="L4", torch="2.13")
    before = Before(verdict="regressed", device=device, peak=Peak(allocated_bytes=5), tolerance="1")
    tests = (
        result(verdict="regressed", outcome="failed", file="tests/test_a.py", line=12, gpu="L4",
               budget={"allocated_bytes": 9}, baseline=before, leaked_bytes=0),
        TestResult(nodeid="b", mode=None, verdict="error", reason="", outcome="failed"),
    )  # fmt: skip
    text = render(Results(tests=tests), "extended")
    first, second = [case for suite in xunit2.JUnitXml.fromstring(text.encode()) for case in suite]
    assert {each.name: each.value for each in first.properties()} == {
        "memreq.verdict": "regressed",
        "memreq.mode": "simulated",
        "memreq.gpu": "L4",
        "memreq.peak.allocated_bytes": "7",
        "memreq.budget.allocated_bytes": "9",
        "memreq.baseline.peak.allocated_bytes": "5",
        "memreq.baseline.verdict": "regressed",
        "memreq.baseline.tolerance": "1",
        "memreq.peak_at": "test_a.py::test_a",
        "memreq.leaked_bytes": "0",
    }
    assert {each.name: each.value for each in second.properties()} == {"memreq.verdict": "error"}
    one, other = parse_junit_xml(text.encode()).testruns
    assert (one.filename, other.filename) == ("tests/test_a.py", None)
    lines = [case.get("line") for case in ET.fromstring(text).iter("testcase")]
    assert lines == ["12", None]


def test_names_that_look_the_same_stay_apart():
    root = checked([result(name) for name in ("a\n", "a\\n", "a\n::b", "c/d::e", "c.d::e", "f")])
    names = [(case.get("classname"), case.get("name")) for case in root.iter("testcase")]
    assert len({*names}) == len(names) == 6
    assert names[-1] == ("memreq.f", "f")


def test_long_names_stay_apart():
    root = checked([result("x" * 5000 + "a"), result("x" * 5000 + "b")])
    names = [case.get("name") for case in root.iter("testcase")]
    assert len(set(names)) == 2
    assert max(map(len, names)) <= 1000


def test_the_environment_is_in_the_suites_properties():
    root = checked([result()], environment=Environment(mode="simulated", gpu="L4", gpu_bytes=5))
    properties = {p.get("name"): p.get("value") for p in root.iter("property")}
    assert properties == {
        "memreq.mode": "simulated",
        "memreq.gpu": "L4",
        "memreq.gpu_bytes": "5",
        "memreq.world_size": "1",
    }


def test_an_unfinished_run_is_an_error():
    root = checked([result()], status="incomplete")
    assert root.get("errors") == "1"
    assert root.find(".//error").get("message").startswith("The run did not finish: ")
