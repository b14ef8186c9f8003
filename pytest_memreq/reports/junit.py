"""`memreq.xml`: JUnit for CI servers, valid for junit-10.xsd whatever the tests are called.

junit-xml models the suite; its document is corrected before it is written: it has attributes that
the schema does not know, and times that do not fit it. Some readers take a failure or a skip
without a message or text for a pass, so each has both.

The `extended` family is what the schema has no place for: where a test stands, for those that
annotate lines or run failed files again, and its figures as properties.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from xml.etree import ElementTree as ET

import junit_xml

from pytest_memreq.choices import JUnitFamily
from pytest_memreq.gate.hints import describe_hint
from pytest_memreq.gate.verdict import SHOWN_SITES, describe_site, figure
from pytest_memreq.reports.rows import tightest, unfinished
from pytest_memreq.reports.text import digest, distinct, visible_lines
from pytest_memreq.requirement import METRICS, Peak
from pytest_memreq.results import Results, TestResult

Name = tuple[str, str]

ATTRIBUTE_CHARACTERS = 900
TEXT_CHARACTERS = 64 * 1024
LEAST_SECONDS = 0.001
UNKNOWN_TO_SCHEMA = ("disabled", "assertions")
PASSING = ("within", "improved")
TOLD_BY_REASON = ("over", "regressed", "improved")  # its figures are what the verdict is about


def render(results: Results, family: JUnitFamily = "strict") -> str:
    """One suite, one case a checked test; the environment as the suite's properties."""
    suite = junit_xml.TestSuite("memreq", [*_cases(results)], properties=_environment(results))
    document = suite.build_xml_doc()
    for element in document.iter():
        _correct(element)
    if family == "extended":
        _extend(document, results.tests)
    root = ET.Element("testsuites", {"name": "memreq", **_totals(document)})
    root.append(document)
    text = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _cases(results: Results) -> Iterator[junit_xml.TestCase]:
    names = [_name(test.nodeid) for test in results.tests]
    counts = Counter(names)
    for test, (classname, name) in zip(results.tests, names, strict=True):
        # Of cases with the same names GitLab keeps the first, and its outcome alone.
        own = f"{name} ({digest(test.nodeid)})" if counts[classname, name] > 1 else name
        case = junit_xml.TestCase(
            own, classname=classname, elapsed_sec=_seconds(test.duration_seconds)
        )
        _add(case, test)
        yield case
    unknown = unfinished(results)
    if unknown is not None:
        yield _unfinished(unknown)


def _name(nodeid: str) -> Name:
    """Class and name of a case."""
    path, _, name = nodeid.partition("::")
    *classes, function = name.split("::") if "[" not in name else _split(name)
    module = path.removesuffix(".py").replace("\\", "/").replace("/", ".")
    return _attribute(".".join(["memreq", module, *classes])), _attribute(function or nodeid or "?")


def _split(name: str) -> list[str]:
    # A parameter may itself hold "::"; what is left of its bracket does not.
    plain, bracket, parameters = name.partition("[")
    *classes, function = plain.split("::")
    return [*classes, function + bracket + parameters]


def _add(case: junit_xml.TestCase, test: TestResult) -> None:
    message, text = _attribute(_message(test)), _text(_explanation(test))
    if test.outcome in ("skipped", "xfailed"):
        case.add_skipped_info(message, text)
    elif test.verdict == "error":
        case.add_error_info(message, text)
    elif test.verdict not in PASSING or test.outcome == "failed":
        case.add_failure_info(message, text)


def _message(test: TestResult) -> str:
    """The verdict, its figures and its reason, the figures where no cut loses them."""
    if test.verdict in TOLD_BY_REASON:
        return f"{test.verdict}: {test.reason}"
    metric = tightest(test)
    sizes = {f"{metric} peak": test.peak.of(metric), "budget": test.budget.get(f"{metric}_bytes")}
    known = [f"{name} {figure(size)}" for name, size in sizes.items() if size is not None]
    return f"{', '.join([test.verdict, *known])}: {test.reason}"


def _explanation(test: TestResult) -> str:
    lines = [f"{test.nodeid}: {_message(test)}"]
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
    case = junit_xml.TestCase("run", classname="memreq.session", elapsed_sec=LEAST_SECONDS)
    case.add_error_info(_attribute(unknown), _text(unknown))
    return case


def _environment(results: Results) -> dict[str, str]:
    shared = {
        f"together.card_{each.card}.{name}": size
        for each in results.together
        for name, size in (("tests", each.tests), *_of_metrics("peak", each.peak).items())
    }
    return _known({**asdict(results.environment), **shared})


def _extend(suite: ET.Element, tests: Sequence[TestResult]) -> None:
    # An unfinished run has a case more, which stands nowhere.
    for case, test in zip(suite.iter("testcase"), tests, strict=False):
        if test.file is not None:
            case.set("file", _attribute(test.file))
        if test.line is not None:
            case.set("line", str(test.line))
        properties = ET.Element("properties")
        for name, value in _known(_figures(test)).items():
            ET.SubElement(properties, "property", {"name": name, "value": value})
        case.insert(0, properties)


def _figures(test: TestResult) -> dict[str, object]:
    """By the path that each has in `memreq.json`."""
    before = test.baseline
    return {
        "verdict": test.verdict,
        "mode": test.mode,
        "gpu": test.gpu,
        **_of_metrics("peak", test.peak),
        **{f"budget.{key}": limit for key, limit in test.budget.items()},
        **_of_metrics("baseline.peak", None if before is None else before.peak),
        "baseline.verdict": None if before is None else before.verdict,
        "baseline.tolerance": None if before is None else before.tolerance,
        "peak_at": test.peak_at,
        "held_bytes": test.held_bytes,
        "fixtures_bytes": test.fixtures_bytes,
        "leaked_bytes": test.leaked_bytes,
    }


def _of_metrics(name: str, peak: Peak | None) -> dict[str, object]:
    sizes = {} if peak is None else {metric: peak.of(metric) for metric in METRICS}
    return {f"{name}.{metric}_bytes": size for metric, size in sizes.items()}


def _known(values: Mapping[str, object]) -> dict[str, str]:
    """Properties; what is not known has none."""
    known = {name: value for name, value in values.items() if value is not None}
    return {_attribute(f"memreq.{n}"): _attribute(str(value)) for n, value in known.items()}


def _correct(element: ET.Element) -> None:
    for name in UNKNOWN_TO_SCHEMA:
        element.attrib.pop(name, None)
    if element.tag in ("testsuite", "testcase"):
        element.set("time", f"{_seconds(float(element.get('time', 0))):.3f}")


def _totals(suite: ET.Element) -> dict[str, str]:
    return {name: suite.get(name, "0") for name in ("tests", "failures", "errors", "time")}


def _seconds(seconds: float) -> float:
    # junit-xml leaves a time of 0 out, and a report without times is refused by some readers.
    return max(seconds, LEAST_SECONDS) if math.isfinite(seconds) else LEAST_SECONDS


def _attribute(text: str) -> str:
    return distinct(text, ATTRIBUTE_CHARACTERS)


def _text(text: str) -> str:
    shown = visible_lines(text)
    half = TEXT_CHARACTERS // 2
    return shown if len(shown) <= TEXT_CHARACTERS else f"{shown[:half]}\n...\n{shown[-half:]}"
