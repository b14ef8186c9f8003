"""Every writer, with every field of a result from somebody who means ill.

Dataclasses are filled by their types, so that a new field is covered by itself. What a form must
keep is said by others' parsers where there are any, and never by `reports.text`.
"""

import dataclasses
import json
import re
import types
import unicodedata
import warnings
from collections.abc import Mapping
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Literal, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from markdown_it import MarkdownIt
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from pytest_memreq.cli.commenting import body
from pytest_memreq.cli.commenting.answers import Run
from pytest_memreq.gate.baseline import baseline_of
from pytest_memreq.gate.baseline_text import from_text, to_text
from pytest_memreq.gate.baseline_update import Found, update
from pytest_memreq.gate.tolerance import parse_tolerance
from pytest_memreq.reports import baseline_table, diffs, junit, outputs, terminal
from pytest_memreq.reports.annotations import RUNNERS, annotation_lines
from pytest_memreq.reports.comparing import compare
from pytest_memreq.reports.files import REPORTS
from pytest_memreq.reports.gathering import Ended, Judged, Left, Started, gathered
from pytest_memreq.reports.journal import events_of, heading, line_of
from pytest_memreq.reports.reading import results_of
from pytest_memreq.reports.recording import entries_of
from pytest_memreq.reports.sides import side_of_baseline, side_of_report
from pytest_memreq.requirement import METRICS
from pytest_memreq.results import Environment, Results, TestResult
from tests.reports.hostile import NAMES
from tests.reports.html_reader import Reader
from tests.reports.runners import commands_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    html5lib = pytest.importorskip("html5lib")

SCHEMA = etree.XMLSchema(etree.parse(str(Path(__file__).with_name("junit-10.xsd"))))
SEEN_BY_NOBODY = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
PLAIN = "plain"
GIB = 2**30
# Of each verdict a test that fails, and one more of what is told otherwise.
KINDS = (
    *product(("over", "regressed", "error", "unchecked", "improved"), ("failed",)),
    *(("within", "passed"), ("over", "xfailed"), ("unchecked", "skipped")),
)


@cache
def fields_of(kind):
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def filled(hint, text):
    """A value of the type, with the text wherever it may have text."""
    origin, inner = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint):
        return hint(**{name: filled(each, text) for name, each in fields_of(hint).items()})
    if origin in (Union, types.UnionType):
        return filled(next(each for each in inner if each is not type(None)), text)
    if origin is Literal:
        return inner[0]
    if origin is tuple:
        return (
            (filled(inner[0], text),) * 2 if ... in inner else tuple(filled(i, text) for i in inner)
        )
    if origin is Mapping:
        keys = [f"{metric}_bytes" for metric in METRICS] if inner[1] is int else []
        return {key: filled(inner[1], text) for key in (*keys, text)}
    return {str: text, int: GIB + 7, float: 1.5, bool: True}[hint]


def run_of(text, status="incomplete", places=("", " b", " c", " d", " e", " f", " g", " h")):
    test = filled(TestResult, text)
    tests = [
        dataclasses.replace(test, nodeid=f"{text}{place}", verdict=verdict, outcome=outcome)
        for place, (verdict, outcome) in zip(places, KINDS, strict=True)
    ]
    return dataclasses.replace(filled(Results, text), tests=tuple(tests), status=status)


def baseline(results):
    return baseline_of(entries_of(results)[0])


def table(results):
    found = [Found(entry=entry, word=None) for entry in entries_of(results)[0]]
    lower = run_of(results.environment.gpu)
    lower = dataclasses.replace(lower, tests=tuple(map(smaller, lower.tests)))
    return baseline_table.render(update(baseline(lower), found[1:], "all"))


def smaller(test):
    less = dataclasses.replace(test.peak, allocated_bytes=5)
    return dataclasses.replace(test, peak=less)


def diff(results, form):
    name = results.environment.gpu
    before = dataclasses.replace(
        results, tests=tuple(map(smaller, results.tests[1:])), environment=Environment(gpu="other")
    )
    made = compare(
        side_of_report(before, name),
        side_of_report(results, name),
        metric="allocated",
        tolerance=parse_tolerance("1 %", "here"),
    )
    return diffs.FORMATS[form](made)


def frame(text):
    run = Run(id=1, event=text, head_sha=text, head_branch=text, conclusion=text)
    return body.Frame(mark="<!-- m -->", run=run, link="https://x", version="1", changed=(text,))


def journal(results):
    events = [Started(nodeid=test.nodeid) for test in results.tests]
    events += [Judged(result=test, environment=results.environment) for test in results.tests]
    events += [Left(nodeid=results.tests[0].nodeid, leaked_bytes=5)]
    events += [Ended(nodeid=results.tests[0].nodeid)]
    return heading() + "".join(map(line_of, events))


def sections(results):
    return "\n".join(line.text for line in terminal.render(results, width=80)) + "\n"


# By the name of what it is of; the extension says the form.
WRITERS = {
    **REPORTS,
    "extended.xml": partial(junit.render, family="extended"),
    "terminal.txt": sections,
    "outputs.txt": outputs.render,
    "journal.jsonl": journal,
    "baseline.json": lambda results: to_text(baseline(results)),
    "baseline.md": table,
    "diff.txt": partial(diff, form="terminal"),
    "diff.md": partial(diff, form="markdown"),
    "diff.json": partial(diff, form="json"),
    "comment.md": lambda results: body.of_report(results, frame(results.environment.gpu)),
    "no_report.md": lambda results: body.of_no_report(
        results.environment.gpu, frame(results.environment.gpu)
    ),
}


def check_xml(text, plain):
    tree = etree.fromstring(text.encode())
    if tree.find(".//testcase[@file]") is None:  # which the schema has no place for
        assert SCHEMA.validate(tree), SCHEMA.error_log
    assert [e.tag for e in tree.iter()] == [e.tag for e in etree.fromstring(plain.encode()).iter()]
    for element in tree.iter():
        for said in (*element.attrib.values(), element.text or ""):
            check_text(said)


def elements(page):
    """Tags and their attributes; what has no room or no text may be left out, so each once."""
    tree = html5lib.HTMLParser(strict=True).parse(page)
    return {(str(e.tag), *sorted(map(str, e.keys()))) for e in tree.iter()}


def check_html(text, plain):
    # Tiles too small for their labels lose these; nothing may come that is not in the plain page.
    assert elements(text) <= elements(plain)
    assert not re.search(r"(?:href|src|action)=\"(?!#|data:,\")", text)
    assert not re.search(r"<[^>]*\son\w+=", re.sub(r"<script>.*?</script>", "", text, flags=re.S))


def tokens_of(text):
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(text)
    return [each for token in tokens for each in (token, *(token.children or ()))]


def check_md(text, plain):
    tokens, ours = tokens_of(text), tokens_of(plain)
    assert {token.type for token in tokens} <= {token.type for token in ours}
    assert not {"link_open", "image"} & {token.type for token in tokens}
    seen, expected = (read(each) for each in (tokens, ours))
    assert set(seen.tags) <= set(expected.tags)
    # Outside of code is only what we say ourselves: whatever a name is, the same.
    assert words(tokens, seen) <= words(ours, expected)


def read(tokens):
    reader = Reader()
    reader.feed("\n".join(t.content for t in tokens if t.type in ("html_block", "html_inline")))
    return reader


def words(tokens, reader):
    plain = [*reader.plain, *(t.content for t in tokens if t.type == "text")]
    return set(re.findall(r"[^\W\d]+|[^\w\s.]", " ".join(plain)))


def check_json(text, plain):
    json.loads(text, parse_constant=pytest.fail, object_pairs_hook=once)


def once(pairs):
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def check_jsonl(text, plain):
    for line in text.splitlines():
        check_json(line, plain)


def check_txt(text, plain):
    if text.endswith("# EOF\n"):
        assert list(text_string_to_metric_families(text))


def check_text(text):
    """Nothing that is not seen, and no command to a runner."""
    text.encode()
    unseen = {character for character in text if unicodedata.category(character) in SEEN_BY_NOBODY}
    assert unseen <= {"\n"}
    assert [commands_of(vendor, text) for vendor in RUNNERS] == [[], []]
    assert "[[attachment|" not in text.lower()


CHECKS = {
    ".xml": check_xml,
    ".html": check_html,
    ".md": check_md,
    ".json": check_json,
    ".jsonl": check_jsonl,
    ".txt": check_txt,
}
BESIDE = {name: render(run_of(PLAIN)) for name, render in WRITERS.items()}


def check(name, text):
    results = run_of(text)
    written = WRITERS[name](results)
    check_text(written)
    CHECKS[Path(name).suffix](written, BESIDE[name])
    return written


# What is long is cut, and of a hundred thousand characters a JSON file of fifty megabytes.
TEXTS = [text if len(text) <= 300 else text[:3000] for text in NAMES]
# A page takes the parser a third of a second, so it has several at once.
JOINED = ["  ".join(TEXTS[at : at + 5]) for at in range(0, len(TEXTS), 5)]


@pytest.mark.parametrize("name", WRITERS)
def test_nothing_gets_through(name):
    for text in JOINED if name == "index.html" else TEXTS:
        check(name, text)


@given(text=st.text(max_size=60) | st.lists(st.sampled_from(TEXTS), max_size=3).map("".join))
@settings(max_examples=10)
@pytest.mark.parametrize("name", WRITERS)
def test_nothing_gets_through_of_any_text(name, text):
    check(name, text)


@pytest.mark.parametrize("vendor", RUNNERS)
def test_an_annotation_is_one_command_that_is_ours(vendor):
    for text in TEXTS:
        check_annotations(vendor, text)


def check_annotations(vendor, text):
    lines = annotation_lines(run_of(text), vendor)
    plain = annotation_lines(run_of(PLAIN), vendor)
    assert len(lines) == len(plain)
    for line in lines:
        (command,) = commands_of(vendor, line)
        assert command.name in ("error", "warning", "task.logissue")
        assert set(command.properties) <= {
            *("file", "line", "title", "type", "sourcepath", "linenumber")
        }
        others = [other for other in RUNNERS if other != vendor]
        assert [commands_of(other, line) for other in others] == [[]]
        check_text(command.data)


@pytest.mark.parametrize("text", JOINED)
def test_what_is_written_is_read_back(text):
    results = run_of(text)
    assert results_of(WRITERS["memreq.json"](results).encode(), "here").running == results.running
    again = results_of(REPORTS["memreq.json"](results).encode(), "here")
    assert REPORTS["memreq.json"](again) == REPORTS["memreq.json"](results)
    entries = baseline(results)
    assert from_text(WRITERS["baseline.json"](results).encode(), "here") == entries
    restored = gathered(events_of(WRITERS["journal.jsonl"](results).encode(), "here"))
    assert {test.nodeid for test in restored.tests} == {test.nodeid for test in results.tests}
    check_text(sections(restored))
    assert side_of_baseline(entries, text).tests.keys() == {e.nodeid for e in entries.entries}
