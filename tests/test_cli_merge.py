"""`memreq merge`, from the command line."""

import json

import pytest

from pytest_memreq.cli import main
from pytest_memreq.reports.files import write_reports
from pytest_memreq.reports.gathering import Finished, Judged
from pytest_memreq.reports.journal import Heading, heading, line_of, name_of
from pytest_memreq.requirement import Peak
from pytest_memreq.results import Environment, Results, TestResult

WHERE = Environment(mode="measured", gpu="L4", gpu_bytes=100, torch="2.13.0")


def result(nodeid, verdict="within", allocated=5):
    return TestResult(
        nodeid=nodeid, mode="measured", verdict=verdict, reason="why", gpu="L4",
        peak=Peak(allocated_bytes=allocated), budget={"allocated_bytes": 7},
        outcome="passed" if verdict == "within" else "failed",
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def shard(path, *tests, **more):
    write_reports(path, Results(tests=tests, environment=WHERE, **more))
    return str(path)


def of_rank(path, rank, world_size, *tests):
    path.mkdir(exist_ok=True)
    events = [Judged(result=test, environment=WHERE) for test in tests]
    lines = [line_of(event) for event in (*events, Finished(status="complete"))]
    head = heading(Heading(rank=rank, world_size=world_size))
    (path / name_of(rank)).write_text(head + "".join(lines))
    return str(path)


def merged(tmp_path, output="memreq-merged"):
    return json.loads((tmp_path / output / "memreq.json").read_text())


def test_shards_make_one_report_with_all_its_files(tmp_path, capsys):
    one, two = shard(tmp_path / "1", result("a")), shard(tmp_path / "2", result("b", "over", 9))
    assert main(["merge", one, f"{two}/memreq.json", "--output", "all"]) == 1
    report = merged(tmp_path, "all")
    assert [test["nodeid"] for test in report["tests"]] == ["a", "b"]
    assert report["summary"]["over"] == report["summary"]["within"] == 1
    assert len(list((tmp_path / "all").iterdir())) == 5
    assert "1 within, 1 over" in capsys.readouterr().out


def test_the_order_of_arguments_does_not_matter(tmp_path):
    paths = [shard(tmp_path / str(n), result(f"test_{n % 2}", allocated=n + 1)) for n in range(4)]
    assert main(["merge", *paths]) == 0
    first = (tmp_path / "memreq-merged" / "memreq.json").read_bytes()
    assert main(["merge", *reversed(paths)]) == 0
    assert (tmp_path / "memreq-merged" / "memreq.json").read_bytes() == first


def test_duplicates_are_said(tmp_path, capsys):
    paths = [
        shard(tmp_path / name, result("a", allocated=size)) for name, size in (("x", 4), ("y", 5))
    ]
    assert main(["merge", *paths]) == 0
    assert "a: is in several reports" in capsys.readouterr().err
    assert main(["merge", paths[0], f"{paths[0]}/memreq.json"]) == 0  # one, named twice
    assert capsys.readouterr().err == ""


def test_missing_shards_are_said_and_nothing_is_green(tmp_path, capsys):
    one = shard(tmp_path / "1", result("a"))
    assert main(["merge", one, "nowhere"]) == 2
    assert "memreq: nowhere: is missing" in capsys.readouterr().err
    assert merged(tmp_path)["status"] == "incomplete"
    assert main(["merge", one, "--expect", "3"]) == 2
    assert "memreq: 2 of 3 reports are missing" in capsys.readouterr().err
    assert main(["merge", one, "--expect", "1"]) == 0


def test_an_incomplete_shard_is_said_and_nothing_is_green(tmp_path, capsys):
    one = shard(tmp_path / "1", result("a"))
    two = shard(tmp_path / "2", result("b"), status="incomplete", running=("test_c",))
    assert main(["merge", one, two]) == 2
    said = capsys.readouterr()
    assert f"memreq: {two}: is incomplete" in said.err
    assert "test_c" in said.out


def test_ranks_that_share_no_directory_are_joined(tmp_path, capsys):
    first = of_rank(tmp_path / "0", 0, 3, result("a", allocated=1))
    others = [of_rank(tmp_path / str(n), n, 3, result("a", allocated=n + 1)) for n in (1, 2)]
    assert main(["merge", *others, first]) == 0
    (test,) = merged(tmp_path)["tests"]
    assert [row["peak"]["allocated_bytes"] for row in test["ranks"]] == [1, 2, 3]
    assert test["peak"]["allocated_bytes"] == 3
    assert main(["merge", first, others[0]]) == 2
    assert "rank 2 of 3: it left nothing" in capsys.readouterr().out
    assert main(["merge", *others]) == 2
    assert "rank 0 of 3: it left nothing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "nor-here"], "nowhere: there is no report there, nor at any other"),
        (["a", "b", "--expect", "1"], "--expect 1: 2 reports are named"),
        (["a", "--expect", "x"], "argument --expect: invalid int value: 'x'"),
        ([], "the following arguments are required: REPORT"),
        (["empty"], "has neither memreq.json nor journal.jsonl: no run reported"),
        (["bad.json"], "bad.json: is not JSON"),
        (["twice", "again"], "is of rank 1, as "),
        (["rank"], "line 1: rank 7 of 3 is none of 1 to"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, capsys, arguments, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.json").write_text("{")
    of_rank(tmp_path / "twice", 1, 2, result("a"))
    of_rank(tmp_path / "again", 1, 2, result("a"))
    of_rank(tmp_path / "rank", 7, 3, result("a"))
    assert main(["merge", *arguments]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
