"""`memreq baseline`, from outside: what it prints and writes, and its exit codes."""

import json
import re
from dataclasses import replace

import pytest

from pytest_memreq.cli import main
from pytest_memreq.gate.baseline import baseline_of
from pytest_memreq.gate.baseline_text import from_text, to_text
from pytest_memreq.requirement import Breakdown, Peak, Site
from pytest_memreq.results import Environment, Results, TestResult, to_json
from tests.gate.baselines import H200, L4, entry
from tests.reports.hostile import NAMES

ENVIRONMENT = Environment(mode="simulated", gpu="NVIDIA H200", torch="2.13.0+cpu")
BASELINE = "memreq-baseline.json"


def result(name="test_a", allocated_bytes=1000, verdict="within", **other):
    return TestResult(
        nodeid=f"test_a.py::{name}",
        mode="simulated",
        verdict=verdict,
        peak=Peak(allocated_bytes=allocated_bytes),
        **{"reason": "", **other},
    )


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """(exit code, printed, lines on stderr) of `memreq baseline ...` in a directory of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*argv):
        code = main(["baseline", *argv])
        printed = capsys.readouterr()
        return code, printed.out, printed.err.splitlines()

    return run


def report(*tests, path="memreq.json", **other):
    content = to_json(Results(tests=tests, environment=ENVIRONMENT, **other))
    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123  # in the working directory
        file.write(content)


def write(tmp_path, *entries):
    (tmp_path / BASELINE).write_text(to_text(baseline_of(entries)))


def written(tmp_path):
    return from_text((tmp_path / BASELINE).read_bytes(), "")


def test_entries_are_listed(run, tmp_path):
    write(tmp_path, entry(allocated_bytes=3 * 2**30), entry("test_b.py::test_b", device=L4))
    code, out, err = run("show")
    assert (code, err) == (0, [])
    head, *rows, count = out.splitlines()
    assert head.split() == ["Test", "Requested", "Allocated", "Reserved", "Device", "On"]
    assert rows[0].split("  ")[0] == "test_a.py::test_a"
    assert re.split("  +", rows[0])[1:] == ["?", "3.00 GiB", "?", "?", str(H200)]
    assert count == "2 entries"
    assert run() == (code, out, err)
    assert run("show", str(tmp_path / BASELINE)) == (code, out, err)


@pytest.mark.parametrize(
    ("options", "listed"),
    [
        (["--test", "test_a.py::*"], ["test_a.py::test_a", "test_a.py::test_a"]),
        (["--test", "test_b.py::test_b[1]"], ["test_b.py::test_b[1]"]),
        (["--mode", "measured"], ["test_b.py::test_b[1]"]),
        (["--gpu", "NVIDIA H200", "--torch", "2.12"], ["test_a.py::test_a"]),
        (["--torch", "2.13"], ["test_a.py::test_a", "test_b.py::test_b[1]"]),
        (["--torch", "2.1"], []),
    ],
)
def test_entries_are_chosen(run, tmp_path, options, listed):
    older = entry(device=replace(H200, torch="2.12"))
    entries = [entry(), older, entry("test_b.py::test_b[1]", device=L4)]
    write(tmp_path, *entries)
    code, out, _ = run("show", *options)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:-1]] == listed
    run("prune", *options)
    left = [each.nodeid for each in written(tmp_path).entries]
    assert sorted([*left, *listed]) == sorted(each.nodeid for each in entries)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not JSON"),
        (b"{}", 'is no file of memreq: it has no "format"'),
        (b"[" * 100_000, "nested too deep"),
        (b'{"format": 1, "entries": [{}, "end"]}', "entries[0]: has no 'nodeid'"),
        (b'{"format": 7}', "is of format 7, made by a newer version"),
        (b"<<<<<<< HEAD\n", "line 1: has the marks of a git conflict"),
    ],
    ids=range(6),
)
@pytest.mark.parametrize("command", [["show"], ["prune"], ["update", "memreq.json"]])
def test_a_malformed_file_is_a_usage_error_and_left_as_it_is(
    run, tmp_path, command, content, words
):
    report(result())
    (tmp_path / BASELINE).write_bytes(content)
    code, out, (error,) = run(*command)
    assert (code, out) == (4, "")
    assert error.startswith(f"memreq: {BASELINE}: ")
    assert words in error
    assert (tmp_path / BASELINE).read_bytes() == content


def test_a_file_that_is_not_there_is_a_usage_error(run):
    for command in ("show", "prune"):
        code, _, err = run(command, "other.json")
        assert code == 4
        assert err == ["memreq: other.json: is not there; pytest --memreq-update new makes it"]


@pytest.mark.parametrize(
    "argv",
    [
        *(["nonsense"], ["update"], ["show", "a", "b"], ["show", "--mode", "guessed"]),
        *(["update", "memreq.json", "--which", "some"], ["update", "nowhere.json"]),
        ["update", "memreq.json", "--tolerance", "1,5 %"],
    ],
)
def test_a_misused_command_is_one_line(run, argv):
    report(result())
    code, out, err = run(*argv)
    assert (code, out, len(err)) == (4, "", 1)


def test_a_baseline_is_made_from_a_report(run, tmp_path):
    sites = tuple(Site(bytes=n, category="other", source=f"a.py:{n}") for n in (400, 600))
    report(result(sites=sites, breakdown=Breakdown(other_bytes=1000)), result("test_b", 7))
    code, out, err = run("update", "memreq.json")
    assert (code, err) == (0, [])
    assert out.splitlines()[0] == "Baseline of `simulated on NVIDIA H200, torch 2.13`:"
    assert out.splitlines()[-1] == "baseline: 2 new"
    first, second = written(tmp_path).entries
    assert (first.peak, first.device) == (Peak(allocated_bytes=1000), H200)
    ((thing,), rest_bytes) = first.largest.things, first.largest.rest_bytes
    assert (thing.bytes, rest_bytes) == (1000, 0)
    assert second == entry("test_a.py::test_b", 7)
    assert run("update", str(tmp_path)) == (0, "baseline: 2 as before\n", [])


WORDS = {"same": 1000, "more": 1001, "less": 999}


@pytest.mark.parametrize(
    ("options", "changed", "code"),
    [
        (["--which", "new"], {"new"}, 1),
        ([], {"new", "more", "less"}, 0),
        (["--which", "failing"], {"new", "more", "less"}, 0),
        (["--which", "all"], {"new", "more", "less"}, 0),
        (["--tolerance", "1 B"], {"new"}, 0),
        (["--tolerance", "1 B", "--which", "all"], {"new", "more", "less"}, 0),
    ],
)
def test_what_is_written(run, tmp_path, options, changed, code):
    write(tmp_path, *(entry(f"test_a.py::{name}") for name in WORDS))
    report(*(result(name, size) for name, size in WORDS.items()), result("new", 5))
    assert run("update", "memreq.json", *options)[0] == code
    figures = {
        each.nodeid.partition("::")[2]: each.peak.allocated_bytes
        for each in written(tmp_path).entries
    }
    sizes = {**WORDS, "new": 5}
    before = dict.fromkeys(WORDS, 1000)
    assert figures == {**before, **{name: sizes[name] for name in changed}}


@pytest.mark.parametrize(
    ("size", "code"), [(1000, 0), (999, 0), (1001, 1)], ids=["same", "less", "more"]
)
def test_a_dry_run_says_whether_the_report_fits_and_writes_nothing(run, tmp_path, size, code):
    write(tmp_path, entry())
    before = (tmp_path / BASELINE).read_text()
    report(result(allocated_bytes=size))
    assert run("update", "memreq.json", "--dry-run")[0] == code
    assert (tmp_path / BASELINE).read_text() == before


def test_a_dry_run_cannot_tell_of_a_test_without_an_entry(run, tmp_path):
    report(result())
    assert run("update", "memreq.json", "--dry-run")[0] == 2
    assert not (tmp_path / BASELINE).exists()


@pytest.mark.parametrize(
    ("verdict", "cause", "is_written", "code"),
    [
        ("within", None, True, 0),
        ("regressed", None, True, 0),
        ("improved", None, True, 0),
        ("unchecked", "not_in_baseline", True, 0),
        ("unchecked", None, False, 2),
        ("unchecked", "skipped", False, 2),
        ("error", None, False, 2),
        ("over", None, False, 1),
    ],
)
def test_only_whole_figures_are_written(run, tmp_path, verdict, cause, is_written, code):
    report(result(verdict=verdict, reason="not in the baseline", cause=cause))
    found, out, _ = run("update", "memreq.json")
    assert found == code
    assert (tmp_path / BASELINE).exists() is is_written
    assert (f"not written: test_a.py::test_a: {verdict}: not in the" in out) is not is_written


def test_a_test_without_figures_is_not_written(run, tmp_path):
    report(replace(result(), peak=Peak()), replace(result("b"), mode=None))
    assert run("update", "memreq.json")[0] == 2
    assert not (tmp_path / BASELINE).exists()


def test_a_tests_own_card_counts(run, tmp_path):
    report(result(), result("test_b", gpu="NVIDIA A10G"))
    run("update", "memreq.json")
    assert [each.device.gpu for each in written(tmp_path).entries] == ["NVIDIA H200", "NVIDIA A10G"]


def test_a_run_that_did_not_finish_cannot_tell(run, tmp_path):
    report(result(), status="incomplete")
    code, out, err = run("update", "memreq.json")
    assert (code, out) == (2, "")
    assert err == ["memreq: cannot tell: memreq.json: is of a run that did not finish"]
    assert not (tmp_path / BASELINE).exists()


def test_a_hostile_report_is_one_line(run, tmp_path):
    report(result())
    raw = json.loads((tmp_path / "memreq.json").read_text())
    raw["tests"][0]["peak"]["allocated_bytes"] = "1\n::error::x"
    (tmp_path / "memreq.json").write_text(json.dumps(raw))
    code, out, (error,) = run("update", "memreq.json")
    assert (code, out) == (4, "")
    assert (
        "memreq.json: results.tests[0].peak.allocated_bytes: '1\\n::error::x' is not a whole"
        in error
    )


@pytest.mark.parametrize("name", NAMES)
def test_hostile_names_come_through(run, tmp_path, name):
    report(replace(result(), nodeid=name), replace(result(verdict="error"), nodeid=f"{name}x"))
    code, out, _ = run("update", "memreq.json")
    assert code == 2
    assert written(tmp_path).entries == (entry(name),)
    listed = run("show")[1]
    for text in (out, listed):
        assert all(line.isprintable() and not line.startswith("::") for line in text.split("\n"))


def test_a_link_is_not_written_through(run, tmp_path):
    write(tmp_path, entry())
    (tmp_path / BASELINE).rename(tmp_path / "precious")
    (tmp_path / BASELINE).symlink_to("precious")
    report(result(allocated_bytes=5))
    code, _, (error,) = run("update", "memreq.json")
    assert code == 4
    assert "is a symbolic link" in error
    assert from_text((tmp_path / "precious").read_bytes(), "") == baseline_of([entry()])


def test_tests_of_files_that_are_gone_are_pruned(run, tmp_path):
    (tmp_path / "test_a.py").write_text("")
    write(tmp_path, entry(), *(entry(f"{name}::x") for name in NAMES if "::" not in name))
    code, out, err = run("prune", "--dry-run")
    assert (code, err) == (0, [])
    assert len(written(tmp_path).entries) > 1
    assert run("prune")[:2] == (code, out)
    assert written(tmp_path) == baseline_of([entry()])


def test_nothing_is_pruned_where_no_test_file_is_found(run, tmp_path):
    write(tmp_path, entry())
    code, _, (error,) = run("prune")
    assert code == 4
    assert error.endswith("has none of the baseline's test files; say where, --root DIR")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "test_a.py").write_text("")
    assert run("prune", "--root", "root")[:2] == (0, "baseline: 1 as before\n")
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["test_a.py"]
