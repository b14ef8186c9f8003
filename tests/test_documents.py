"""The tables of the documents are what the benchmarks found, and none is left out."""

import pytest

from benchmarks.cuda import equal_counts
from benchmarks.documents import (
    BENCHMARKS,
    DOCUMENTS,
    ROOT,
    all_texts,
    filled,
    named,
    named_benchmark,
)
from benchmarks.errors import errors_of, percent
from benchmarks.published import LEFT_OUT, LEFT_OUT_FIGURES, PUBLISHED, is_within
from benchmarks.results import RESULTS, load

TABLES = all_texts()


def text_of(name):
    return (ROOT / name).read_text(encoding="utf-8")


def test_every_benchmark_was_run():
    assert {path.stem for path in RESULTS.glob("*.json")} == set(BENCHMARKS)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_tables_are_those_of_the_data(name):
    assert filled(text_of(name), TABLES) == text_of(name), "run `python -m benchmarks.documents`"


def test_every_table_is_shown_and_there_is_no_other():
    assert set().union(*(named(text_of(name)) for name in DOCUMENTS)) == TABLES.keys()


@pytest.mark.parametrize(
    "path",
    [
        path
        for pattern in ("*.md", "docs/*.md", "benchmarks/*.md", "example_project/*.md")
        for path in sorted(ROOT.glob(pattern))
    ],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_no_merge_was_left_half_done(path):
    marks = ("<<<<<<< ", "=======\n", ">>>>>>> ")
    assert not [line for line in path.read_text("utf-8").splitlines(True) if line.startswith(marks)]


def test_a_figure_that_was_changed_by_hand_is_seen():
    changed = text_of(DOCUMENTS[0]).replace("| 140 |", "| 141 |")
    assert filled(changed, TABLES) != changed


def test_errors_are_signed_where_they_are_worst():
    found = errors_of([(100, 100), (110, 100), (95, 100), (100, 100)])
    assert (found.count, found.exact, found.median) == (4, 2, 0.0)
    assert (found.p95, found.most_over) == pytest.approx((0.1, 0.1))
    assert found.most_under == pytest.approx(-0.05)
    assert [percent(each) for each in (0, 0.0001, -0.5)] == ["0", "+0.010%", "-50.0%"]


def test_the_readme_says_what_was_found():
    readme = " ".join(text_of("README.md").split())
    cuda = load(named_benchmark("cuda"))["2.13"].found
    (published,) = load(named_benchmark("published")).values()
    equal = {equal_counts(scripts.values()) for scripts in cuda.values()}
    ((count, *_, allocated, _reserved),) = equal
    assert f"in {allocated} of {count} scripts" in readme
    whole = [row for row in published.found if PUBLISHED[row["id"]]["grade"] == "A"]
    within = sum(map(is_within, whole))
    assert f"in {within} of {len(whole)} published measurements" in readme


def test_every_published_figure_is_rebuilt_or_said_not_to_be():
    (published,) = load(named_benchmark("published")).values()
    rebuilt = {(row["id"], row["figure"]) for row in published.found}
    for case in PUBLISHED.values():
        for value in case["values"]:
            figure = case["id"], value["label"]
            is_left_out = case["id"] in LEFT_OUT or figure in LEFT_OUT_FIGURES
            assert (figure in rebuilt) != is_left_out, figure
