"""Annotations: what the runners' own parsers read of them is what was meant, and nothing more."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_memreq.gate.verdict import VERDICT_WORDS
from pytest_memreq.reports.annotations import RUNNERS, Annotation, annotation_lines, vendor_of
from pytest_memreq.requirement import Breakdown, Site
from pytest_memreq.results import Results, TestResult
from tests.reports.hostile import NAMES
from tests.reports.runners import commands_of, lines_of

VENDORS = [*RUNNERS]
LEVEL = {
    "github": lambda command: command.name,
    "azure": lambda command: command.properties["type"],
}
FILE = {"github": "file", "azure": "sourcepath"}
LINE = {"github": "line", "azure": "linenumber"}
each_vendor = pytest.mark.parametrize("vendor", VENDORS)


def result(nodeid="test_a.py::test_a", verdict="over", outcome="failed", **more):
    more = {"file": "test_a.py", "line": 3, "reason": "9 bytes over", **more}
    return TestResult(nodeid=nodeid, mode=None, verdict=verdict, outcome=outcome, **more)


def shown(vendor, *tests, root="", **more):
    """(level, file, line, message) of each command that the vendor's runner finds."""
    lines = annotation_lines(Results(tests=tests, **more), vendor, root)
    commands = commands_of(vendor, "\n".join(lines))
    assert len(commands) == len(lines)
    others = [commands_of(other, "\n".join(lines)) for other in VENDORS if other != vendor]
    assert others == [[]]
    return [
        (
            LEVEL[vendor](command),
            command.properties.get(FILE[vendor]),
            command.properties.get(LINE[vendor]),
            command.data,
        )
        for command in commands
    ]


@each_vendor
def test_a_failed_test_is_an_error_on_its_line(vendor):
    ((level, file, line, message),) = shown(vendor, result())
    assert (level, file, line) == ("error", "test_a.py", "3")
    title = "" if vendor == "github" else "GPU memory: over: "
    assert message == f"{title}test_a.py::test_a: 9 bytes over"


def test_the_title_on_github_is_the_verdict():
    (line,) = annotation_lines(Results(tests=(result(),)), "github")
    (command,) = commands_of("github", line)
    assert command.properties["title"] == "GPU memory: over"


LEVELS = {
    "passed": ["", "error", "error", "warning", "error", "error"],
    "failed": ["error"] * 6,
    "skipped": ["", *["warning"] * 5],
    "xfailed": ["", "", "warning", "", "", ""],
    "xpassed": ["", "error", "error", "warning", "error", "error"],
}


@each_vendor
@pytest.mark.parametrize(("outcome", "levels"), LEVELS.items())
def test_the_level_follows_from_outcome_and_verdict(vendor, outcome, levels):
    for verdict, level in zip(VERDICT_WORDS, levels, strict=True):
        found = shown(vendor, result(verdict=verdict, outcome=outcome))
        assert [each[0] for each in found] == [level] * bool(level), verdict


@each_vendor
def test_a_run_that_did_not_finish_is_an_error(vendor):
    ((level, file, _, message),) = shown(vendor, status="incomplete")
    assert (level, file) == ("error", None)
    assert "the run did not finish" in message


@each_vendor
@pytest.mark.parametrize(("count", "more"), [(8, None), (9, 1), (1000, 992)])
def test_eight_of_each_level_and_how_many_more(vendor, count, more):
    tests = [result(f"e{n}", "error") for n in range(count)]
    tests += [result(f"w{n}", "improved", "passed") for n in range(count)]
    found = shown(vendor, *tests, result("worst", "over"))
    for level, beyond in (("error", (more or 0) + 1), ("warning", more or 0)):
        messages = [each[3] for each in found if each[0] == level]
        assert len(messages) == 8 + bool(beyond)
        counts = [message for message in messages if f"and {beyond} more" in message]
        assert counts == messages[8:]
    assert "worst" in found[0][3]


@each_vendor
def test_a_message_has_what_bears_the_verdict_out_within_the_limit(vendor):
    sites = (Site(bytes=7, category="activations", module="m" * 900),) * 9
    test = result("x" * 9000, breakdown=Breakdown(activations_bytes=63), sites=sites)
    ((*_, message),) = shown(vendor, test)
    assert "activations 63 B (100%)" in message
    assert len(message) <= 4096


@pytest.mark.parametrize(
    ("file", "root", "place"),
    [
        ("tests/test_a.py", "", "tests/test_a.py"),
        ("tests/test_a.py", ".", "tests/test_a.py"),
        ("tests\\test_a.py", "", "tests/test_a.py"),
        ("./a//b/../test_a.py", "", "a/test_a.py"),
        ("test_a.py", "sub/project", "sub/project/test_a.py"),
        ("../test_a.py", "sub", "test_a.py"),
        ("../test_a.py", "", None),
        ("../../test_a.py", "sub", None),
        ("..\\test_a.py", "", None),
        ("..", "", None),
        (".", "", None),
        ("..a/test_a.py", "", "..a/test_a.py"),
        ("/etc/passwd", "", None),
        ("/etc/passwd", "sub", None),
        ("test_a.py", None, None),
        (None, "", None),
        ("", "", None),
        ("=test_a.py", "", None),
        ("a\nb.py", "", None),
        ("a,b:c;d]e%25.py", "", "a,b:c;d]e%25.py"),
    ],
)
@each_vendor
def test_a_file_is_one_of_the_repository(vendor, file, root, place):
    ((_, found, line, _),) = shown(vendor, result(file=file), root=root)
    assert found == place
    assert line == (None if place is None else "3")


@each_vendor
@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_hostile_name_is_one_command_and_no_other(vendor, name):
    sites = (Site(bytes=1, category=name, module=name, source=name),)
    for verdict, outcome in product(VERDICT_WORDS, ("failed", "skipped")):
        test = result(
            name, verdict, outcome, reason=name, file=name, sites=sites,
            breakdown=Breakdown(other_bytes=1), peak_at=name, grew=(name,),
        )  # fmt: skip
        found = shown(vendor, test)
        assert len(found) == (0 if (verdict, outcome) == ("within", "skipped") else 1)
        lines = annotation_lines(Results(tests=(test,)), vendor)
        assert all(line.isprintable() for line in lines)
        for *_, message in found:
            assert not commands_of("github", message)
            assert not commands_of("azure", message)


TEXT = st.text() | st.lists(st.sampled_from([*"%;:,]=\r\n ", "::", "%0A", "%AZP25", "a"])).map(
    "".join
)
# A runner drops these, and no title or file of ours has them.
VALUE = TEXT.filter(lambda text: text.strip() == text != "" and not text.startswith("="))


@given(
    title=VALUE,
    message=TEXT,
    file=st.none() | VALUE,
    line=st.none() | st.integers(1, 10**6),
    level=st.sampled_from(["error", "warning"]),
    vendor=st.sampled_from(VENDORS),
)
def test_any_text_is_read_back_as_it_was(title, message, file, line, level, vendor):
    annotation = Annotation(level=level, title=title, message=message, file=file, line=line)
    (read,) = [RUNNERS[vendor].render(annotation)]
    assert len(lines_of(read)) == 1
    (command,) = commands_of(vendor, read)
    where = {FILE[vendor]: file, LINE[vendor]: None if line is None else str(line)}
    known = {name: value for name, value in where.items() if value is not None}
    if vendor == "github":
        assert command.name == level
        assert command.properties == {**known, "title": title}
        assert command.data == message
    else:
        assert command.name == "task.logissue"
        assert command.properties == {**known, "type": level}
        assert command.data == f"{title}: {message}"


@pytest.mark.parametrize(
    ("variables", "vendor"),
    [
        ({}, None),
        ({"GITHUB_ACTIONS": "true"}, "github"),
        ({"GITHUB_ACTIONS": "false"}, None),
        ({"TF_BUILD": "True"}, "azure"),
        ({"TF_BUILD": "", "CI": "true"}, None),
    ],
)
def test_a_runner_is_known_by_its_variable(variables, vendor):
    assert vendor_of(variables) == vendor
