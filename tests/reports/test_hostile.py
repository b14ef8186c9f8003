"""Whatever stands in any field: every writer, by the parsers of those who read what it writes.

`filled` finds the fields by their types, so a new one is among them, and so is a new report.
"""

import re
import unicodedata
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from markdown_it import MarkdownIt
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from pytest_memreq.cli.commenting import body
from pytest_memreq.cli.commenting.answers import Run
from pytest_memreq.gate.baseline import Entry, baseline_of
from pytest_memreq.gate.baseline_text import from_text, to_text
from pytest_memreq.gate.baseline_update import Found, update
from pytest_memreq.gate.verdict import VERDICT_WORDS
from pytest_memreq.reports import baseline_table, junit, outputs, terminal
from pytest_memreq.reports.annotations import RUNNERS, annotation_lines
from pytest_memreq.reports.comparing import compare
from pytest_memreq.reports.diffs import FORMATS
from pytest_memreq.reports.files import REPORTS
from pytest_memreq.reports.gathering import Judged, Started
from pytest_memreq.reports.journal import events_of, heading, line_of
from pytest_memreq.reports.reading import results_of
from pytest_memreq.reports.sides import side_of_baseline, side_of_report
from pytest_memreq.requirement import Peak
from pytest_memreq.results import Environment, Results, TestResult
from pytest_memreq.strict_json import parse
from tests.reports.filling import BUDGETS, filled
from tests.reports.hostile import NAMES
from tests.reports.html_reader import Reader
from tests.reports.runners import PARSERS, commands_of
from tests.reports.test_html import ATTRIBUTES, HTML_TAGS, SVG, SVG_TAGS, name_of, tree_of

SCHEMA = etree.XMLSchema(etree.parse(str(Path(__file__).with_name("junit-10.xsd"))))
TABLE_TAGS = {
    *(("table",), ("tr",), ("th",), ("td",), ("td", "colspan"), ("code",), ("b",), ("br",)),
    *(("details",), ("summary",)),
}
LINK = "https://github.example/octo/models/actions/runs/7"
# What GitHub makes of text that is not code: mentions, references, links, pictures, symbols.
MADE_OF_TEXT = re.compile(r"@|#\d|GH-\d|https?:|www\.|!\[|\]\(|\$|:smile:|evil")
# Unicode's Default_Ignorable_Code_Point beside the categories below, and what looks like nothing.
IGNORABLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0000-\U000e0fff]"
)
OUTCOMES = {"over": "failed", "regressed": "xfailed", "error": "skipped", "within": "passed"}


def results_with(text, number=7, budget=None, **more):
    """A test of each verdict, the first of which has nothing but the text for its name."""
    tests = [
        filled(
            TestResult, text, number,
            nodeid=f"{at or ''}{text}", verdict=word, outcome=OUTCOMES.get(word, "failed"),
            **({} if budget is None else {"budget": budget}),
        )
        for at, word in enumerate(VERDICT_WORDS)
    ]  # fmt: skip
    given = {"status": "incomplete", "running": (text, f"{text}x"), **more}
    environment = filled(Environment, text, number)
    return Results(tests=tuple(tests), environment=environment, **given)


def entries_with(text, number=7):
    return [filled(Entry, text, number), filled(Entry, text, number, nodeid=f"{text} 2")]


def is_plain(text, also="\n"):
    """True where it is as a reader sees it: nothing hides, reorders or ends a line."""
    return not IGNORABLE.search(text) and all(
        character in also or character == " " or _is_seen(character) for character in {*text}
    )


def _is_seen(character):
    category = unicodedata.category(character)
    return category[0] not in "CZ"


def has_no_command(text):
    return "[[attachment|" not in text.lower() and not any(
        commands_of(vendor, text) for vendor in PARSERS
    )


def as_text(text):
    assert is_plain(text)
    assert has_no_command(text)
    text.encode("utf-8")


def as_json(text):
    assert text.isascii()
    assert has_no_command(text)
    parse(text.encode(), "here")


def as_xml(text):
    as_text(text)
    assert SCHEMA.validate(etree.fromstring(text.encode())), SCHEMA.error_log


def as_extended_xml(text):
    """The schema has no place for all that is in it."""
    as_text(text)
    root = etree.fromstring(text.encode())
    assert {element.tag for element in root.iter()} <= {
        *("testsuites", "testsuite", "testcase", "properties", "property"),
        *("failure", "error", "skipped"),
    }


def as_metrics(text):
    as_text(text)
    assert list(text_string_to_metric_families(text))


def as_html(text):
    as_text(re.sub(r"<(style|script)>.*?</\1>", "", text, flags=re.DOTALL))
    for element in tree_of(text).iter():
        is_svg = str(element.tag).startswith(SVG)
        assert name_of(element) in (SVG_TAGS if is_svg else HTML_TAGS)
        assert {str(key) for key in element.keys()} <= ATTRIBUTES  # noqa: SIM118
        assert (element.get("href") or "#").startswith(("#", "data:,"))


def as_markdown(text, tags=TABLE_TAGS):
    """By a CommonMark parser: tags of ours alone, and no text outside of code that is foreign."""
    as_text(text)
    plain, html = [], []
    for token in markdown().parse(text):
        for part in token.children or [token]:
            assert not {"href", "src"} & {*part.attrs}, part
            (html if part.type in ("html_block", "html_inline") else plain).append(part)
    reader = Reader()
    reader.feed("".join(part.content for part in html))
    assert {*reader.tags} <= tags
    assert reader.depth == 0
    spoken = [part.content for part in plain if part.type not in ("code_inline", "inline")]
    for piece in (*spoken, *reader.plain):
        assert not MADE_OF_TEXT.search(piece), piece
    assert {part.type for part in plain} <= MARKDOWN


MARKDOWN = {
    *("heading_open", "heading_close", "paragraph_open", "paragraph_close", "text", "code_inline"),
    *("softbreak", "strong_open", "strong_close"),
    *(f"{part}_{end}" for part in ("table", "thead", "tbody", "tr", "th", "td")
      for end in ("open", "close")),
}  # fmt: skip


@cache
def markdown():
    return MarkdownIt("gfm-like", {"linkify": False})


def as_comment(text):
    """A comment has a line of its own that says where it is from, with the one link."""
    assert text.count(LINK) == 1
    as_markdown(text.replace(f'<a href="{LINK}">', "<b>").replace("</a>", "</b>"), COMMENT_TAGS)


COMMENT_TAGS = {*TABLE_TAGS, ("sub",)}


def frame_with(text):
    run = Run(id=7, event="pull_request", head_sha=text, conclusion=text)
    mark = "<!-- pytest-memreq: memreq-report -->"
    return body.Frame(mark=mark, run=run, link=LINK, version="1", changed=(text, f"memreq{text}"))


def update_with(text):
    before = [replace(filled(Entry, text), peak=Peak(allocated_bytes=5)), *entries_with("a")]
    found = [Found(entry=each, word=None) for each in entries_with(text, 9)]
    return update(baseline_of(before), found, "all")


def diff_with(text):
    """Of a report and a baseline, and of two reports whose figures differ."""
    base, head = results_with(text), results_with(text, 9)
    other = side_of_baseline(baseline_of(entries_with(text, 11)), text)
    yield compare(side_of_report(base, text), side_of_report(head, text), metric="allocated")
    yield compare(other, side_of_report(head, text), metric="allocated")


def lines_of(results):
    return "\n".join(line.text for line in terminal.render(results, width=100))


CHECKS = {
    "memreq.json": as_json,
    "memreq.xml": as_xml,
    "memreq.md": as_markdown,
    "metrics.txt": as_metrics,
    "index.html": as_html,
}
WRITERS = {
    **{name: (lambda text, r=render: [r(results_with(text))], CHECKS[name])
       for name, render in REPORTS.items()},
    "extended": (lambda text: [junit.render(results_with(text), "extended")], as_extended_xml),
    "terminal": (lambda text: [lines_of(results_with(text))], as_text),
    "outputs": (lambda text: [outputs.render(results_with(text))], as_text),
    "baseline": (lambda text: [baseline_table.render(update_with(text))], as_markdown),
    "comment": (lambda text: [body.of_report(results_with(text), frame_with(text))], as_comment),
    "no report": (lambda text: [body.of_no_report(text, frame_with(text))], as_comment),
    "diff terminal": (lambda text: map(FORMATS["terminal"], diff_with(text)), as_text),
    "diff markdown": (lambda text: map(FORMATS["markdown"], diff_with(text)), as_markdown),
    "diff json": (lambda text: map(FORMATS["json"], diff_with(text)), as_json),
}  # fmt: skip
each_name = pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
each_writer = pytest.mark.parametrize("writer", WRITERS)
TEXT = st.text(st.characters(), max_size=40) | st.lists(
    st.sampled_from([name for name in NAMES if len(name) < 80]), max_size=3
).map("".join)


def check(writer, text):
    write, is_right = WRITERS[writer]
    for written in write(text):
        is_right(written)


@each_writer
@each_name
def test_a_hostile_name_in_every_field_stays_text(writer, name):
    check(writer, name)


@each_writer
@given(TEXT)
@settings(max_examples=10)
def test_any_text_in_every_field_stays_text(writer, text):
    check(writer, text)


@pytest.mark.parametrize("vendor", RUNNERS)
@given(st.sampled_from(NAMES) | TEXT)
@settings(max_examples=len(NAMES))
def test_annotations_are_the_only_commands(vendor, text):
    lines = annotation_lines(results_with(text), vendor)
    assert len(lines) > len(VERDICT_WORDS) / 2
    assert all(is_plain(line, "") for line in lines)
    found = {each: commands_of(each, "\n".join(lines)) for each in PARSERS}
    assert {each: len(commands) for each, commands in found.items()} == {
        **dict.fromkeys(PARSERS, 0), vendor: len(lines)
    }  # fmt: skip
    assert all(has_no_command(command.data) for command in found[vendor])


@given(st.sampled_from(NAMES) | TEXT)
@settings(max_examples=len(NAMES))
def test_files_that_are_read_again_say_the_same(text):
    results = results_with(text, budget=BUDGETS)  # other keys are not written
    assert results_of(REPORTS["memreq.json"](results).encode(), "") == results
    baseline = baseline_of(entries_with(text))
    assert from_text(to_text(baseline).encode(), "") == baseline
    events = [Started(nodeid=text), *(Judged(result=test, environment=results.environment)
                                      for test in results.tests)]  # fmt: skip
    journal = heading() + "".join(map(line_of, events))
    assert journal.isascii()
    assert list(events_of(journal.encode(), "")) == events
