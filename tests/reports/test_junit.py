"""JUnit: valid whatever the names, and read as what it says by others' parsers."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import xmlschema
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from pytest_memreq.gate.verdict import VERDICT_WORDS
from pytest_memreq.reports.junit import render
from pytest_memreq.requirement import Breakdown, Peak, Site
from pytest_memreq.results import Environment, Results, TestResult
from tests.reports.hostile import NAMES

XSD = Path(__file__).with_name("junit-10.xsd")
LXML_SCHEMA = etree.XMLSchema(etree.parse(str(XSD)))
SCHEMA = xmlschema.XMLSchema(str(XSD))
OUTCOMES = ("passed", "failed", "skipped", "xfailed")


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


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0, 0.0, 1e-7, 12.3456, 1e9])
def test_any_duration_is_a_valid_time(seconds):
    root = checked([result(duration_seconds=seconds)])
    assert float(root.find("testsuite/testcase").get("time")) > 0


@pytest.mark.parametrize(
    ("verdict", "outcome", "tag"),
    [
        ("within", "passed", None),
        ("within", "xpassed", None),
        ("improved", "passed", None),
        ("over", "failed", "failure"),
        ("regressed", "failed", "failure"),
        ("unchecked", "failed", "failure"),
        ("error", "failed", "error"),
        ("over", "xfailed", "skipped"),
        ("unchecked", "skipped", "skipped"),
    ],
)
def test_a_verdict_is_told_with_message_and_text(verdict, outcome, tag):
    root = checked([result(verdict=verdict, outcome=outcome, reason="9 bytes over")])
    case = root.find("testsuite/testcase")
    told = [child.tag for child in case]
    assert told == ([] if tag is None else [tag])
    for child in case:
        assert child.get("message") == f"{verdict}: 9 bytes over"
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
