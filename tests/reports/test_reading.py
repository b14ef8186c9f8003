"""Reading a report: what was written comes back, and nothing else passes."""

import json
import os
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_memreq import MemreqError
from pytest_memreq.gate.baseline import baseline_of
from pytest_memreq.gate.baseline_text import to_text
from pytest_memreq.reports.files import write_reports
from pytest_memreq.reports.reading import read_baseline, read_results, results_of
from pytest_memreq.requirement import DevicePeak, Peak, Survivor
from pytest_memreq.results import Environment, Results, TestResult, to_json
from tests.gate.baselines import entry
from tests.reports.hostile import NAMES
from tests.test_results import RESULTS

PLAIN = TestResult(
    nodeid="test_a.py::test_a", mode="simulated", verdict="within", reason="fits",
    peak=Peak(allocated_bytes=5), budget={"allocated_bytes": 6},
)  # fmt: skip
RUNS = st.lists(RESULTS, max_size=3, unique_by=lambda result: result.nodeid).map(
    lambda tests: Results(tests=tuple(tests), environment=Environment(gpu="L4", world_size=2))
)
VALUES = [
    *(None, True, -1, 1.5, 2**63, 10**400, "1", "", [], [1], {}, {"a": 1}, [[]], [{}], "within"),
    *("\ud800", "1 GiB"),
]


def raw_of(results):
    return json.loads(to_json(results))


def error_of(content):
    with pytest.raises(MemreqError) as raised:
        results_of(content, "here")
    message = str(raised.value)
    assert message.startswith("here")
    assert len(message.splitlines()) == 1
    assert message.isascii()
    return message


@given(RUNS)
def test_what_was_written_comes_back(results):
    assert results_of(to_json(results).encode(), "") == results


@pytest.mark.parametrize("name", NAMES)
def test_any_name_comes_back(name):
    test = TestResult(nodeid=name, mode=None, verdict="error", reason=name)
    (read,) = results_of(to_json(Results(tests=(test,))).encode(), "").tests
    assert read == test


def test_all_that_a_test_can_have_comes_back():
    test = TestResult(
        nodeid="a", mode="measured", verdict="over", reason="", leaked_bytes=-5,
        held_by=(("test_b", 3),), unknown={"device": "no NVML"},
        survivors=(Survivor(bytes=1, shape=(2, 3), dtype="int8", referrers=("x", "y")),),
        devices=(DevicePeak(index=1, name="L4", peak=Peak(), absolute_peak=Peak()),),
    )  # fmt: skip
    results = Results(tests=(test,), status="incomplete")
    assert results_of(to_json(results).encode(), "") == results


def test_a_directory_is_the_report_in_it(tmp_path):
    write_reports(tmp_path, Results(tests=(PLAIN,)))
    assert read_results(tmp_path) == read_results(tmp_path / "memreq.json")


def test_what_an_older_version_did_not_write_is_not_known():
    raw = raw_of(Results(tests=(PLAIN,)))
    (test,) = raw["tests"]
    raw["tests"] = [{key: test[key] for key in ("nodeid", "mode", "verdict", "reason", "peak")}]
    (read,) = results_of(json.dumps(raw).encode(), "").tests
    assert (read.peak, read.breakdown, read.sites) == (PLAIN.peak, None, ())


def test_what_a_newer_version_writes_beside_is_passed_over():
    raw = raw_of(Results(tests=(PLAIN,)))
    raw["more"] = raw["tests"][0]["more"] = raw["tests"][0]["peak"]["more"] = [1]
    assert results_of(json.dumps(raw).encode(), "").tests == (PLAIN,)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not JSON: Expecting value"),
        (b"{", "is not JSON: Expecting"),
        (b'{"format": 1', "is not JSON: Expecting"),
        (b"[]", "holds a list instead of an object"),
        (b"null", "holds null instead"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a":' * 100_000, "nested too deep"),
        (b"\xff\xfe{\x00}\x00", "is not UTF-8"),
        (b'{"format": NaN}', "has NaN, which is no number in JSON"),
        (b'{"format": -Infinity}', "has -Infinity"),
        (b'{"format": 1, "format": 1}', "has 'format' twice"),
        (b'{"format": 1, "a": {"\\n": 1, "\\n": 2}}', r"has '\n' twice"),
        (b"9" * 5000, "is not JSON: Exceeds the limit"),
        (b'{"tests": []}', 'is no file of memreq: it has no "format"; right is 1'),
        (b'{"format": 1}', "results: has no 'status'"),
        (b'{"format": 1, "status": "complete"}', "results: has no 'tests'"),
        (b'{"format": true, "tests": []}', 'has "format" true; right is 1'),
        (b'{"format": "1"}', "has \"format\" '1'; right is 1"),
        (b'{"format": 2}', "is of format 2, made by a newer version; this one reads 1"),
        (
            b"{\n<<<<<<< ours\n1\n=======\n2\n>>>>>>> b\n}",
            "line 2: has the marks of a git conflict",
        ),
        (b"{\r\n1,\r\n=======\r\n}", "line 3: has the marks of a git conflict"),
    ],
    ids=range(21),
)
def test_what_is_no_report_is_one_line(content, words):
    assert words in error_of(content)


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("tests",), {}, "here: results.tests: an object is not a list"),
        (("tests", 0), 7, "here: results.tests[0]: 7 is not an object"),
        (("tests", 0, "nodeid"), 7, "here: results.tests[0].nodeid: 7 is not text"),
        (("tests", 0, "verdict"), "fine", "tests[0].verdict: 'fine' is not one of within, over"),
        (("tests", 0, "mode"), ["x"], "tests[0].mode: a list is not one of measured"),
        (("tests", 0, "peak"), None, "tests[0].peak: null is not an object"),
        (("tests", 0, "peak", "allocated_bytes"), 5.0, "5.0 is not a whole number"),
        (("tests", 0, "peak", "allocated_bytes"), True, "true is not a whole number"),
        (("tests", 0, "peak", "allocated_bytes"), -1, "-1 is not from 0 to 2^63 - 1"),
        (("tests", 0, "peak", "allocated_bytes"), 2**63, "is not from 0 to 2^63 - 1"),
        (("tests", 0, "budget", "allocated_bytes"), -1, "budget.allocated_bytes: -1 is not from 0"),
        (("tests", 0, "held_by"), [{"who": "x"}], "results.tests[0].held_by[0]: has no 'bytes'"),
        (("tests", 0, "held_by"), [{"who": "x", "bytes": -1}], "held_by[0].bytes: -1 is not from"),
        (("tests", 0, "held_by"), [["x", 1]], "held_by[0]: a list is not an object"),
        (("summary",), 3, "here: results.summary: 3 is not an object"),
        (("summary", "within"), "1", "here: results.summary.within: '1' is not a whole number"),
        (("tests", 0, "duration_seconds"), 1e300, "is not a number up to"),
        (("tests", 0, "duration_seconds"), "1", "'1' is not a number"),
        (("status",), "done", "here: results.status: 'done' is not one of complete, incomplete"),
        (("environment", "world_size"), "2", "results.environment.world_size: '2' is not a whole"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(place, value, words):
    raw = raw_of(Results(tests=(PLAIN,)))
    *path, key = place
    inner = raw
    for step in path:
        inner = inner[step]
    inner[key] = value
    assert words in error_of(json.dumps(raw).encode())


def test_what_is_missing_is_named():
    raw = raw_of(Results(tests=(PLAIN,)))
    del raw["tests"][0]["nodeid"]
    assert error_of(json.dumps(raw).encode()) == "here: results.tests[0]: has no 'nodeid'"


def test_a_test_that_is_there_twice_is_refused():
    content = to_json(Results(tests=(PLAIN, PLAIN))).encode()
    assert error_of(content) == "here: has the test 'test_a.py::test_a' twice"


@given(st.data())
def test_whatever_stands_in_a_place_is_read_or_named(data):
    """No value anywhere ends in anything but results or one line."""
    raw = raw_of(Results(tests=(PLAIN,)))
    inner = raw
    for _ in range(data.draw(st.integers(1, 5))):
        keys = [*inner] if isinstance(inner, dict) else [*range(len(inner))]
        key = data.draw(st.sampled_from(keys))
        if not inner[key] or not isinstance(inner[key], (dict, list)):
            break
        outer, inner = inner, inner[key]
    else:
        inner = outer
    inner[key] = data.draw(st.sampled_from(VALUES))
    with suppress(MemreqError):  # nothing else is let pass
        results_of(json.dumps(raw).encode(), "here")


def test_what_is_no_file_is_one_line(tmp_path):
    for path, words in (
        (tmp_path / "a.json", "is not there"),
        (tmp_path, "memreq.json: is not there"),
    ):
        with pytest.raises(MemreqError, match=words):
            read_results(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes with names")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "memreq.json")
    with pytest.raises(MemreqError, match=r"memreq\.json: is not a file"):
        read_results(tmp_path / "memreq.json")


def test_a_huge_file_is_not_read_whole(tmp_path):
    path = tmp_path / "memreq.json"
    with path.open("wb") as file:
        file.truncate(257 * 2**20)
    with pytest.raises(MemreqError, match=r"is larger than 256\.00 MiB"):
        read_results(path)


def test_a_file_that_may_not_be_read_is_one_line(tmp_path):
    path = tmp_path / "memreq.json"
    path.write_text("{}")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read anything")
    with pytest.raises(MemreqError, match="cannot be read: Permission denied"):
        read_results(path)


def test_a_baseline_that_is_not_there_is_none(tmp_path):
    assert read_baseline(tmp_path / "memreq-baseline.json") is None
    assert read_baseline(tmp_path / "not" / "there.json") is None


def test_a_baseline_is_read_through_a_link(tmp_path):
    (tmp_path / "a").write_text(to_text(baseline_of([entry()])))
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert read_baseline(tmp_path / "b") == baseline_of([entry()])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.mkdir(), "is not a file"),
        (lambda path: path.symlink_to("nowhere"), "is not there"),
        (lambda path: path.symlink_to(path), "is not there|cannot be read"),
        (lambda path: path.symlink_to("/dev/zero"), "is not a file"),
        (lambda path: path.write_bytes(b""), "is not JSON"),
        (lambda path: path.write_bytes(b" " * (64 * 2**20 + 1)), "is larger than"),
    ],
    ids=range(6),
)
def test_a_baseline_that_cannot_be_read_is_never_none(tmp_path, make, words):
    path = tmp_path / "memreq-baseline.json"
    make(path)
    with pytest.raises(MemreqError, match=words) as raised:
        read_baseline(path)
    assert str(raised.value).startswith(str(path))
    assert len(str(raised.value).splitlines()) == 1
