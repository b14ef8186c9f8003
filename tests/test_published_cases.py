"""Every published case is rebuilt, or left out with a reason; so is every figure of those."""

import json
from pathlib import Path

import benchmarks
from benchmarks.published_cases import CASES
from benchmarks.published_left_out import LEFT_OUT, LEFT_OUT_FIGURES

DATA = Path(benchmarks.__file__).parent / "data/published.json"
PUBLISHED = {case["id"]: case for case in json.loads(DATA.read_text())}
RUNS = {case.id: case.runs for case in CASES}


def test_a_case_is_rebuilt_or_left_out():
    assert len(RUNS) == len(CASES)
    assert RUNS.keys().isdisjoint(LEFT_OUT)
    assert RUNS.keys() | LEFT_OUT.keys() == PUBLISHED.keys()


def test_a_figure_of_a_rebuilt_case_is_run_or_left_out():
    for id_, runs in RUNS.items():
        published = [value["label"] for value in PUBLISHED[id_]["values"]]
        assert sorted(published) == sorted(runs)
    left_out = [(id_, label) for id_ in RUNS for label in PUBLISHED[id_].get("left_out", ())]
    assert sorted(left_out) == sorted(LEFT_OUT_FIGURES)


def test_what_is_left_out_has_its_title_and_a_reason():
    for id_, reason in (LEFT_OUT | LEFT_OUT_FIGURES).items():
        assert reason
        assert PUBLISHED[id_ if isinstance(id_, str) else id_[0]]["title"]
    assert all(not PUBLISHED[id_]["values"] for id_ in LEFT_OUT)
