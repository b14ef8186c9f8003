"""`memreq render`, from outside: what it makes of whatever a run left, and its exit codes."""

import json
from dataclasses import replace

import pytest

from pytest_memreq.cli import main
from pytest_memreq.reports.files import REPORTS, write_reports
from pytest_memreq.reports.gathering import Ended, Judged, Started
from pytest_memreq.reports.journal import heading, line_of
from pytest_memreq.requirement import Peak
from pytest_memreq.results import Environment, Results, TestResult

ENVIRONMENT = Environment(mode="measured", gpu="L4", torch="2.13.0")
WITHIN = TestResult(
    nodeid="test_a.py::test_a", mode="measured", gpu="L4", verdict="within", reason="fits",
    peak=Peak(allocated_bytes=5), budget={"allocated_bytes": 6},
)  # fmt: skip
OVER = replace(WITHIN, nodeid="test_a.py::test_b", verdict="over", outcome="failed", reason="big")


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "memreq-report").mkdir()
    return tmp_path / "memreq-report"


def render(capsys, *arguments):
    code = main(["render", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out.splitlines(), printed.err.splitlines()


def write(directory, *tests, status="complete"):
    write_reports(directory, Results(tests=tests, environment=ENVIRONMENT, status=status))


def write_journal(directory, *events, rest=""):
    text = heading() + "".join(map(line_of, events)) + rest
    (directory / "journal.jsonl").write_text(text)


def judged(test):
    return Judged(result=test, environment=ENVIRONMENT)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"verdict": "improved"}, 0),
        ({"verdict": "over", "outcome": "failed"}, 1),
        ({"verdict": "regressed", "outcome": "failed"}, 1),
        ({"verdict": "over", "outcome": "xfailed"}, 0),
        ({"verdict": "unchecked", "outcome": "failed"}, 2),
        ({"verdict": "error", "outcome": "failed"}, 2),
        ({"verdict": "within", "outcome": "failed"}, 2),
        ({"verdict": "unchecked", "outcome": "skipped"}, 0),
    ],
)
def test_the_exit_code_is_the_gates(capsys, directory, changes, code):
    write(directory, WITHIN, replace(OVER, **{"verdict": "within", "outcome": "passed", **changes}))
    assert render(capsys)[0] == code


@pytest.mark.parametrize("tests", [(), (replace(WITHIN, verdict="unchecked", outcome="skipped"),)])
def test_nothing_checked_cannot_tell(capsys, directory, tests):
    write(directory, *tests)
    assert render(capsys)[0] == 2


def test_a_finished_run_is_made_once_more_from_its_json(capsys, directory):
    write(directory, WITHIN)
    before = {name: (directory / name).read_bytes() for name in REPORTS}
    for name in before.keys() - {"memreq.json"}:
        (directory / name).write_text("lost")
    code, out, _ = render(capsys, directory)
    assert code == 0
    assert {name: (directory / name).read_bytes() for name in REPORTS} == before
    assert out[-1] == "1 within"


def test_a_finished_report_counts_more_than_a_journal_that_was_left(capsys, directory):
    write(directory, WITHIN)
    write_journal(directory, judged(OVER))
    assert render(capsys)[0] == 0


def test_a_run_that_was_killed_is_made_from_its_journal(capsys, directory):
    write(directory, status="incomplete")
    running = "test_c.py::test_c[\x1b[31m]"
    events = [Started(nodeid=WITHIN.nodeid), judged(WITHIN), Ended(nodeid=WITHIN.nodeid)]
    write_journal(directory, *events, Started(nodeid=running), rest='{"judged": {"res')
    code, out, _ = render(capsys)
    assert code == 2
    assert out[1] == (
        "The run did not finish: tests are missing here, and nothing is known of them. "
        r"Running when it ended: test_c.py::test_c[\x1b[31m]"
    )
    report = json.loads((directory / "memreq.json").read_text())
    assert report["status"] == "incomplete"
    assert report["running"] == [running]
    assert [test["nodeid"] for test in report["tests"]] == [WITHIN.nodeid]
    assert "test_c.py::test_c" in (directory / "memreq.md").read_text()
    assert 'errors="1"' in (directory / "memreq.xml").read_text()
    assert render(capsys) == (code, out, [])  # and once more


@pytest.mark.parametrize("content", ["", "{", '{"format": 1}\n'])
def test_a_run_that_was_killed_at_once_cannot_tell(capsys, directory, content):
    (directory / "journal.jsonl").write_text(content)
    assert render(capsys)[0] == 2


def test_the_summary_is_appended(capsys, directory, tmp_path):
    write(directory, WITHIN)
    (tmp_path / "summary.md").write_text("before\n")
    assert render(capsys, "--summary", tmp_path / "summary.md")[0] == 0
    markdown = (directory / "memreq.md").read_text()
    assert (tmp_path / "summary.md").read_text() == f"before\n{markdown}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: is no directory of a report; pytest --memreq-report makes one"),
        ([], "memreq-report: has neither memreq.json nor journal.jsonl: no run reported"),
    ],
)
def test_where_there_is_no_report_it_is_said(capsys, directory, arguments, message):
    assert render(capsys, *arguments) == (4, [], [f"memreq: {message}"])


def test_a_report_that_is_none_is_said(capsys, directory):
    (directory / "memreq.json").write_text("{")
    code, _, (line,) = render(capsys)
    assert code == 4
    assert line.startswith("memreq: memreq-report/memreq.json: is not JSON: ")


def test_a_summary_that_cannot_be_written_is_said(capsys, directory, tmp_path):
    write(directory, WITHIN)
    code, _, (line,) = render(capsys, "--summary", tmp_path / "no" / "summary.md")
    assert code == 4
    assert "cannot be written: No such file or directory" in line
