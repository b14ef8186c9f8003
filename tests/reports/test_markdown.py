"""The run as Markdown: what it says, how long it is, and that names stay text."""

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pytest_memreq.gate.baseline import Before
from pytest_memreq.gate.hints import Hint
from pytest_memreq.reports.markdown import render
from pytest_memreq.reports.rows import UNFINISHED
from pytest_memreq.reports.text import visible
from pytest_memreq.requirement import Breakdown, Peak, Site
from pytest_memreq.results import Environment, Results, TestResult
from tests.reports.hostile import NAMES
from tests.reports.html_reader import Reader

GIB = 2**30
TAGS = {("table",), ("tr",), ("th",), ("td",), ("td", "colspan"), ("code",), ("b",), ("br",)}
TAGS |= {("details",), ("summary",)}
OURS = re.compile(r"[A-Za-z0-9_ ,.:()+%?-]*")
OUTCOMES = {"over": "failed", "regressed": "failed", "error": "failed", "unchecked": "failed"}


def result(name="test_a.py::test_a", verdict="over", **more):
    given = {
        "reason": f"because of {name}",
        "outcome": OUTCOMES.get(verdict, "passed"),
        "peak": Peak(allocated_bytes=3 * GIB),
        "budget": {"allocated_bytes": 2 * GIB},
        "baseline": Before(peak=Peak(allocated_bytes=2 * GIB)),
        "breakdown": Breakdown(activations_bytes=7),
        "sites": (Site(bytes=7, category="activations", module=name, source=f"{name}:1"),),
        "grew": (f"+1.00 GiB in {name}",),
        "hints": (Hint(word="no_grad", evidence=f"shown by {name}", advice="do it"),),
        "notes": (f"note on {name}",),
        **more,
    }
    return TestResult(nodeid=name, mode="simulated", verdict=verdict, **given)


def test_a_test_that_needs_a_look_has_figures_reason_and_what_is_behind():
    text = render(
        Results(tests=(result(), result("b", "within")), environment=Environment(gpu="G"))
    )
    lines = text.splitlines()
    assert lines[0] == "### GPU memory: failed: 1 within, 1 over"
    assert lines[4:7] == [
        (
            "<tr><td><b>over</b></td><td><code>test_a.py::test_a</code></td><td>3.00 GiB</td>"
            "<td>2.00 GiB</td><td>2.00 GiB (+1.00 GiB, +50.00%)</td></tr>"
        ),
        '<tr><td></td><td colspan="4"><code>because of test_a.py::test_a</code></td></tr>',
        '<tr><td></td><td colspan="4"><details><summary>why</summary>',
    ]
    for said in ("+1.00 GiB in test_a.py", "hint (no_grad): shown by", "test_a.py::test_a:1"):
        assert said in lines[7]
    within = lines.index("<details><summary>1 within</summary>")
    assert within < lines.index("<tr><th>environment</th><th></th></tr>")
    assert "<tr><td>gpu</td><td><code>G</code></td></tr>" in lines


@pytest.mark.parametrize(
    ("tests", "status", "said"),
    [
        ([], "complete", "nothing checked: no test was checked"),
        ([], "incomplete", "incomplete: no test was checked"),
        ([result(verdict="within")], "incomplete", "incomplete: 1 within"),
        ([result(verdict="within")], "complete", "passed: 1 within"),
        ([result(verdict="improved")], "complete", "passed: 1 improved"),
        ([result(verdict="improved", outcome="failed")], "complete", "failed: 1 improved"),
        ([result(verdict="unchecked")], "complete", "failed: 1 unchecked"),
        ([result(verdict="unchecked", outcome="skipped")], "complete", "not all checked: 1 unch"),
        ([result(verdict="over", outcome="xfailed")], "complete", "passed: 1 over (1 of them exp"),
        ([result(verdict="over", outcome="passed")], "complete", "failed: 1 over"),
    ],
)
def test_the_first_line_says_the_outcome(tests, status, said):
    text = render(Results(tests=tuple(tests), status=status))
    assert text.startswith(f"### GPU memory: {said}")
    assert (UNFINISHED in text) == (status == "incomplete")


def test_the_worst_is_first_and_what_is_not_known_is_a_question_mark():
    words = ("improved", "unchecked", "error", "regressed", "over")
    tests = [result(word, word, peak=Peak()) for word in words]
    text = render(Results(tests=(*tests, result("x", outcome="xfailed"))))
    assert re.findall("<b>(.*?)</b>", text) == [*reversed(words), "expected"]
    assert "<td>?</td>" in text


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_hostile_names_stay_text(name):
    checked(name)


@given(st.text())
@settings(max_examples=60)
def test_any_name_stays_text(name):
    checked(name)


def checked(name):
    tests = [result(name), result(name, "within"), result(name, "unchecked", peak_at=name)]
    text = render(Results(tests=tuple(tests), environment=Environment(gpu=name, torch=name)))
    assert all(visible(line) == line for line in text.splitlines())
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(text)
    assert {token.type for token in tokens} == {
        *("heading_open", "inline", "heading_close", "html_block")
    }
    reader = Reader()
    reader.feed("".join(token.content for token in tokens if token.type == "html_block"))
    assert set(reader.tags) <= TAGS
    assert reader.tags.count(("table",)) == 3
    assert all(OURS.fullmatch(part.strip()) for part in "".join(reader.plain).splitlines())


@pytest.mark.parametrize("count", [50, 1000])
@pytest.mark.parametrize("name", ["x" * 40, "&" * 500, "👩" * 500, "\0" * 500])
@pytest.mark.parametrize("verdict", ["over", "within", "improved"])
def test_it_fits_a_comment_and_says_what_is_left_out(count, name, verdict):
    tests = [result(f"{n} {name}", verdict, grew=(name,) * 50) for n in range(count)]
    text = render(Results(tests=tuple(tests), environment=Environment(gpu=name, allocator=name)))
    assert len(text.encode()) < 60_000
    shown = text.count(f"<b>{verdict}</b>")
    more = re.search(r"and (\d+) more that need a look|, (\d+) of them left out here", text)
    assert shown + (int(more[1] or more[2]) if more else 0) == count
    behind = re.search(r"what is behind (\d+) of these is left out", text)
    if verdict != "within":
        assert text.count("<summary>why") + (int(behind[1]) if behind else 0) == shown


def test_what_passed_gives_way_to_what_did_not():
    passed = [result(f"passed {n} {'x' * 100}", "within") for n in range(1000)]
    failed = result("failed")
    text = render(Results(tests=(*passed, failed)))
    many = [result(f"failed {n}") for n in range(30)]
    assert len(render(Results(tests=(*passed, *many))).encode()) < 60_000
    alone = render(Results(tests=(replace(failed, notes=()),)))
    assert "<summary>why" in text
    assert text.splitlines()[4:8] == alone.splitlines()[4:8]
