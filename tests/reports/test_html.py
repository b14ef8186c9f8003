"""`index.html`: what it says, that names stay text, how large it is, and that it needs nothing."""

import base64
import hashlib
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_memreq.reports.html import render
from pytest_memreq.reports.rows import UNFINISHED
from pytest_memreq.reports.text import visible
from pytest_memreq.requirement import Peak
from pytest_memreq.results import Environment
from tests.reports.hostile import NAMES
from tests.reports.html_results import GIB, full, plain, run_of, sites_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    html5lib = pytest.importorskip("html5lib")

SVG = "{http://www.w3.org/2000/svg}"
HTML_TAGS = {
    *("html", "head", "meta", "title", "link", "style", "body", "header", "nav", "main", "section"),
    *(
        "h1",
        "h2",
        "h3",
        "h4",
        "p",
        "ul",
        "li",
        "a",
        "span",
        "b",
        "strong",
        "em",
        "code",
        "bdi",
        "q",
    ),
    *("article", "details", "summary", "div", "table", "thead", "tbody", "tr", "th", "td"),
    *("dl", "dt", "dd", "script"),
}
SVG_TAGS = {"svg", "g", "title", "rect", "line", "path", "circle", "text"}
ATTRIBUTES = {
    *("lang", "charset", "http-equiv", "content", "name", "rel", "href", "id", "class", "open"),
    *("aria-label", "aria-hidden", "scope", "tabindex", "role", "width", "height", "viewBox"),
    *("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "d", "fill", "fill-opacity", "stroke"),
    *("stroke-opacity", "stroke-width", "stroke-dasharray", "stroke-linejoin", "text-anchor"),
    *("font-family", "font-size", "font-weight", "pointer-events"),
}


def tree_of(page):
    parser = html5lib.HTMLParser(strict=True)  # raises where a browser would have to guess
    return parser.parse(page)


def name_of(element):
    return str(element.tag).rpartition("}")[2]


def text_of(element):
    return "".join(element.itertext())


def find(tree, tag, **attributes):
    return [
        element
        for element in tree.iter()
        if name_of(element) == tag
        and all(element.get(key.rstrip("_")) == value for key, value in attributes.items())
    ]


def test_the_first_screen_says_what_failed_why_and_what_grew():
    page = render(run_of(full("test_a.py::test_big"), plain("test_a.py::test_small")))
    tree = tree_of(page)
    [title] = find(tree, "h1")
    assert text_of(title) == "GPU memory: ✗ failed"
    card = find(tree, "article")[0]
    text = text_of(card)
    said = ("test_a.py::test_big", "because of test_a.py::test_big", "What grew", "+1.00 GiB")
    assert [text.index(words) for words in said] == sorted(text.index(words) for words in said)
    assert text.index("What grew") < text.index("Memory over time")
    [source] = [p for p in find(tree, "p", class_="quiet") if "NVIDIA L4" in text_of(p)]
    assert text_of(source) == "simulated on NVIDIA L4 (24.00 GiB), torch 2.13.0"


def test_every_field_of_a_test_is_shown():
    parts = {
        "reason": "QQreason", "peak_at": "QQpeak_at", "unknown": {"device": "QQunknown"},
        "held_by": (("QQheld", 7),), "snapshot": "QQsnapshot", "grew": ("QQgrew",),
        "notes": ("QQnotes",), "file": "QQfile",
    }  # fmt: skip
    text = text_of(find(tree_of(render(run_of(full("name", **parts)))), "article")[0])
    assert set(re.findall(r"QQ\w+", text)) == {
        *(
            "QQreason",
            "QQpeak_at",
            "QQunknown",
            "QQheld",
            "QQsnapshot",
            "QQgrew",
            "QQnotes",
            "QQfile",
        )
    }
    for words in ("fixtures held", "left 11 bytes behind", "Still alive after", "1, name"):
        assert words in text


def test_figures_stand_beside_budget_baseline_and_simulation():
    tree = tree_of(render(run_of(full("name"))))
    [table] = find(tree, "table", class_="figures")
    rows = [[text_of(cell) for cell in row] for row in find(table, "tr")]
    assert rows[0] == [
        *("metric", "peak", "budget", "used", "baseline", "change", "simulated"),
    ]
    assert rows[2] == [
        *("allocated", "3.00 GiB", "2.00 GiB", "150%", "2.00 GiB", "+1.00 GiB, +50.0%"),
        "3.00 GiB (same)",
    ]
    assert rows[4][:4] == ["device", "?", "1.00 GiB", "-"]
    told = [svg.get("aria-label") or "" for svg in find(tree, "svg")]
    [curve] = [text for text in told if text.startswith("Allocated memory over")]
    assert "budget 2.00 GiB, baseline 2.00 GiB" in curve


@pytest.mark.parametrize(
    ("tests", "status", "said"),
    [
        ([], "complete", "nothing checked"),
        ([], "incomplete", "incomplete"),
        ([plain()], "incomplete", "incomplete"),
        ([plain()], "complete", "passed"),
        ([plain(verdict="unchecked", outcome="skipped")], "complete", "not all checked"),
        ([plain(verdict="over")], "complete", "failed"),
        ([plain(verdict="over", outcome="xfailed")], "complete", "passed"),
    ],
)
def test_the_outcome_is_in_the_title_and_an_unfinished_run_says_so_first(tests, status, said):
    tree = tree_of(render(run_of(*tests, status=status, running=("<b>hung",))))
    assert text_of(find(tree, "h1")[0]).endswith(f" {said}")
    assert said in text_of(find(tree, "title")[0])
    alarms = find(tree, "p", class_="alarm")
    assert bool(alarms) == (status == "incomplete")
    for alarm in alarms:
        assert text_of(alarm) == f"INCOMPLETE. {UNFINISHED}. Running when it ended: <b>hung"
        order = [name_of(e) for e in tree.iter() if e is alarm or name_of(e) == "h2"]
        assert order[0] == "p"


def test_the_table_has_every_test_the_worst_first_with_links_to_what_is_there():
    words = ("within", "improved", "unchecked", "error", "regressed", "over")
    tests = [plain(word, word) for word in words]
    tree = tree_of(render(run_of(*tests, plain("late", "over", outcome="xfailed"))))
    [table] = find(tree, "table", class_="tests")
    rows = find(find(table, "tbody")[0], "tr")
    assert [text_of(row[0]).strip() for row in rows] == [*words[:0:-1], "expected", "within"]
    assert {len(row) for row in rows} == {7}
    targets = [link.get("href")[1:] for link in find(tree, "a")]
    assert len(targets) == len({*targets})
    assert {*targets} <= {element.get("id") for element in tree.iter()}


def test_headings_have_no_gaps_and_plots_have_text():
    tree = tree_of(render(run_of(full("name"), plain())))
    levels = [int(name_of(e)[1]) for e in tree.iter() if re.fullmatch("h[1-6]", name_of(e))]
    assert levels[0] == 1
    assert all(now <= before + 1 for before, now in pairwise(levels))
    assert all(cell.get("scope") for cell in find(tree, "th"))
    for svg in find(tree, "svg"):
        assert svg.get("aria-hidden") or (svg.get("role") == "img" and svg.get("aria-label"))


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_hostile_names_stay_text(name):
    checked(name)


@given(st.text(max_size=200))
@settings(max_examples=25, deadline=None)
def test_any_name_stays_text(name):
    checked(name)


def checked(name):
    environment = Environment(mode=name, gpu=name, torch=name, cuda=name, allocator=name)
    tests = [full(name), full(name, "within"), full(name, "unchecked", simulated=None)]
    page = render(run_of(*tests, environment=environment))
    body = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)
    assert all(visible(line) == line for line in body.splitlines())
    tree = tree_of(page)
    expected = tree_of(render(run_of(*(plainer(test) for test in tests), environment=ENVIRONMENT)))
    for element in tree.iter():
        is_svg = str(element.tag).startswith(SVG)
        assert name_of(element) in (SVG_TAGS if is_svg else HTML_TAGS)
        assert {str(key) for key in element.keys()} <= ATTRIBUTES  # noqa: SIM118
    if name and ";" not in name:  # nothing is left out, and reasons are told apart by these
        assert [name_of(e) for e in outer(tree)] == [name_of(e) for e in outer(expected)]
    shown = visible(name)
    if len(shown) <= 160:
        cells = [text_of(cell) for cell in find(tree, "tbody")[-1].iter() if name_of(cell) == "td"]
        assert [cell.strip("\n") for cell in cells[1::7]] == [shown or " "] * 3
        assert [text_of(bdi) for bdi in find(tree, "bdi")][::2] == [shown or " "] * 3
    assert [script.text for script in find(tree, "script")] == [script_of(page)]


ENVIRONMENT = Environment(mode="plain", gpu="plain", torch="plain", cuda="plain", allocator="plain")


def plainer(test):
    simulated = test.simulated and full("plain").simulated
    return replace(full("plain", test.verdict), simulated=simulated)


def outer(tree):
    """All that is not within a plot: what is drawn depends on how long names are."""
    inside = {id(inner) for svg in find(tree, "svg") for inner in svg.iter()}
    return [element for element in tree.iter() if id(element) not in inside]


def script_of(page):
    return re.search(r"<script>(.*?)</script>", page, re.DOTALL)[1]


def test_the_policy_allows_what_is_written_and_nothing_else():
    page = render(run_of(full("name")))
    [meta] = [m for m in find(tree_of(page), "meta") if m.get("http-equiv")]
    assert meta.get("http-equiv") == "Content-Security-Policy"
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)[1]
    assert meta.get("content") == (
        f"default-src 'none'; img-src data:; style-src '{digest(style)}'; "
        f"script-src '{digest(script_of(page))}'; base-uri 'none'; form-action 'none'"
    )
    assert page.index("Content-Security-Policy") < page.index("<style>")


def digest(text):
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def test_nothing_is_fetched_and_no_style_or_handler_is_within_an_element():
    page = render(run_of(full("name"), plain()))
    for element in tree_of(page).iter():
        assert element.get("src") is None
        assert (element.get("href") or "#").startswith(("#", "data:,"))
        assert not [key for key in element.keys() if key == "style" or key.startswith("on")]  # noqa: SIM118
    assert not re.search(r"url\(|@import|https?://|innerHTML|eval\(|document\.write", page)


def test_the_same_results_give_the_same_bytes():
    code = (
        "import sys\nfrom pytest_memreq.reports.html import render\n"
        "from tests.reports.html_results import full, plain, run_of\n"
        "sys.stdout.buffer.write(render(run_of(full('a'), plain('b'))).encode())"
    )
    path = ":".join(sys.path)
    pages = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": path},
            check=True, capture_output=True, timeout=60,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert pages == {render(run_of(full("a"), plain("b"))).encode()}


@pytest.mark.parametrize("bad", [0, 30, 10_000])
@pytest.mark.parametrize("name", ["test_models.py::test_step[{}-bfloat16-2048]", "{}" + "&" * 300])
def test_ten_thousand_tests_fit_three_megabytes_and_what_does_not_is_counted(bad, name):
    like, sites = full("model", simulated=None), sites_of("model.layers.attention", 100)
    tests = [
        replace(like, nodeid=name.format(at), sites=sites, verdict="over" if at < bad else "within")
        for at in range(10_000)
    ]
    tests[5_000:5_100] = [replace(each, notes=(each.nodeid * 9,)) for each in tests[5_000:5_100]]
    page = render(run_of(*tests, environment=Environment(gpu=name * 9)))
    assert len(page.encode()) <= 3_000_000
    rows = page.count("\n<tr><td>within<td>") + page.count('\n<tr><td class="v-over">over<td>')
    left_out = re.search(r"<strong>(\d+) tests are left out here", page)
    assert rows + int(left_out[1] if left_out else 0) == 10_000
    assert rows == 10_000 or "&" in name
    cards = page.count('class="card v-over"')
    more = re.search(r"<strong>(\d+) more that need a look", page)
    assert cards + int(more[1] if more else 0) == bad
    assert cards >= min(bad, 30)
    assert page.count("Plot of memory over time") >= 6


def test_what_is_long_within_a_test_is_counted_too():
    many = tuple(f"note {at}" for at in range(100))
    page = render(run_of(full("name", notes=many, sites=sites_of("m", 90))))
    assert "<li>and 80 more</li>" in page
    assert "and 78 more with" in page
    assert "<li>and 50 more</li>" in page  # of the run's notes


def test_a_figure_that_is_not_known_is_a_question_mark():
    page = render(run_of(plain(verdict="unchecked", peak=Peak(), budget={"allocated_bytes": GIB})))
    assert "<td>?<td>1.00 GiB<td>-<td>-<td>-" in page


def test_loading_the_reports_loads_no_templates():
    code = "import sys, pytest_memreq.plugin; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
