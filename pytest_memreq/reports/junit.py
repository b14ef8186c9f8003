"""`memreq.xml`: JUnit for CI servers, valid for junit-10.xsd whatever the tests are called.

junit-xml models the suite; its document is corrected before it is written: it has attributes that
the schema does not know, and times that do not fit it. Some readers take a failure or a skip
without a message or text for a pass, so each has both.
"""

from __future__ import annotations

import math
from xml.etree import ElementTree as ET

import junit_xml

from pytest_memreq.gate.hints import describe_hint
from pytest_memreq.gate.verdict import SHOWN_SITES, describe_site
from pytest_memreq.reports.rows import unfinished
from pytest_memreq.reports.text import distinct, visible_lines
from pytest_memreq.results import Results, TestResult

ATTRIBUTE_CHARACTERS = 900
TEXT_CHARACTERS = 64 * 1024
UNKNOWN_TO_SCHEMA = ("disabled", "assertions")


def render(results: Results) -> str:
    """One suite, one case a checked test; the environment as the suite's properties."""
    cases = [_case(test) for test in results.tests]
    unknown = unfinished(results)
    if unknown is not None:
        cases.append(_unfinished(unknown))
    suite = junit_xml.TestSuite("memreq", cases, properties=_properties(results))
    document = suite.build_xml_doc()
    for element in document.iter():
        _correct(element)
    root = ET.Element("testsuites", {"name": "memreq", **_totals(document)})
    root.append(document)
    text = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _case(test: TestResult) -> junit_xml.TestCase:
    path, _, name = test.nodeid.partition("::")
    *classes, function = name.split("::") if "[" not in name else _split(name)
    module = path.removesuffix(".py").replace("\\", "/").replace("/", ".")
    case = junit_xml.TestCase(
        _attribute(function or test.nodeid or "?"),
        classname=_attribute(".".join(["memreq", module, *classes])),
        elapsed_sec=_seconds(test.duration_seconds),
    )
    _add(case, test)
    return case


def _split(name: str) -> list[str]:
    # A parameter may itself hold "::"; what is left of its bracket does not.
    plain, bracket, parameters = name.partition("[")
    *classes, function = plain.split("::")
    return [*classes, function + bracket + parameters]


def _add(case: junit_xml.TestCase, test: TestResult) -> None:
    if test.verdict in ("within", "improved"):
        return
    message, text = _attribute(f"{test.verdict}: {test.reason}"), _text(_explanation(test))
    if test.outcome in ("skipped", "xfailed"):
        case.add_skipped_info(message, text)
    elif test.verdict == "error":
        case.add_error_info(message, text)
    else:
        case.add_failure_info(message, text)


def _explanation(test: TestResult) -> str:
    lines = [f"{test.nodeid}: {test.verdict}", test.reason]
    if test.outcome == "xfailed":
        lines.append("the test is expected to fail")
    if test.peak_at:
        lines.append(f"peak: {test.peak_at}")
    if test.breakdown is not None:
        lines += [f"{word}: {size} bytes" for word, size in test.breakdown.items() if size]
    lines += test.grew
    lines += [describe_site(site) for site in test.sites[:SHOWN_SITES]]
    lines += [line for hint in test.hints for line in describe_hint(hint)]
    return "\n".join(lines)


def _unfinished(unknown: str) -> junit_xml.TestCase:
    case = junit_xml.TestCase("run", classname="memreq.session", elapsed_sec=0.001)
    case.add_error_info(_attribute(unknown), _text(unknown))
    return case


def _properties(results: Results) -> dict[str, str]:
    where = results.environment
    known = {
        "mode": where.mode,
        "gpu": where.gpu,
        "gpu_bytes": where.gpu_bytes,
        "torch": where.torch,
        "cuda": where.cuda,
        "allocator": where.allocator,
        "world_size": where.world_size,
    }
    return {
        f"memreq.{name}": _attribute(str(value))
        for name, value in known.items()
        if value is not None
    }


def _correct(element: ET.Element) -> None:
    for name in UNKNOWN_TO_SCHEMA:
        element.attrib.pop(name, None)
    if element.tag in ("testsuite", "testcase"):
        element.set("time", f"{_seconds(float(element.get('time', 0))):.3f}")


def _totals(suite: ET.Element) -> dict[str, str]:
    return {name: suite.get(name, "0") for name in ("tests", "failures", "errors", "time")}


def _seconds(seconds: float) -> float:
    # junit-xml leaves a time of 0 out, and a report without times is refused by some readers.
    return max(seconds, 0.001) if math.isfinite(seconds) else 0.001


def _attribute(text: str) -> str:
    return distinct(text, ATTRIBUTE_CHARACTERS)


def _text(text: str) -> str:
    shown = visible_lines(text)
    half = TEXT_CHARACTERS // 2
    return shown if len(shown) <= TEXT_CHARACTERS else f"{shown[:half]}\n...\n{shown[-half:]}"
