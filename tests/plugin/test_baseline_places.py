"""Where a baseline is looked for, and what never gets into one."""

import json
import os
import subprocess
import sys

import pytest

TEST = """
import pytest

@pytest.mark.max_gpu_memory()
def test_{name}(card):
    card.allocate({size})
"""
FILE = "memreq-baseline.json"
NEW = "--memreq-update=new"
INI = "[pytest]\n"


@pytest.fixture
def project(scripted, monkeypatch):
    """A repository of a pyproject.toml, its baseline, and a test in `tests`."""
    for name in ("CI", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    scripted.mkdir(".git")
    scripted.makepyprojecttoml("[tool.pytest.ini_options]\n[tool.memreq]\ntolerance = 0")
    # Where another settings file does not hide it.
    put(scripted.path / "tests" / "conftest.py", (scripted.path / "conftest.py").read_text())
    (scripted.path / "conftest.py").unlink()
    put(scripted.path / "tests" / "test_a.py", TEST.format(name="a", size=1000))
    scripted.runpytest(NEW).assert_outcomes(passed=1)
    assert entries(scripted.path / FILE) == {"tests/test_a.py::test_a": 1000}
    return scripted


def put(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def entries(path):
    *found, _ = json.loads(path.read_text())["entries"]
    return {each["nodeid"]: each["peak"]["allocated_bytes"] for each in found}


def refused(result, *lines):
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([*lines])
    return result


def test_the_header_names_the_baseline(project):
    project.runpytest().stdout.fnmatch_lines([f"memreq: *, baseline {FILE} (1 entry)"])
    project.runpytest("--memreq=off").stdout.no_fnmatch_line("memreq: *baseline*")
    (project.path / FILE).unlink()
    project.runpytest().stdout.fnmatch_lines(["memreq: *, no baseline"])
    result = project.runpytest(NEW)
    result.stdout.fnmatch_lines([f"memreq: *, baseline {FILE} (0 entries)"])


@pytest.mark.parametrize("options", [("-c", "ci/pytest.ini"), ("-c", "ci/pytest.ini", NEW)])
def test_another_settings_file_does_not_hide_the_baseline(project, options):
    put(project.path / "ci" / "pytest.ini", INI)
    place = project.path / "ci" / FILE
    remedy = f"*{place}: is not there, and {project.path / FILE} is: *--rootdir {project.path}, *"
    refused(project.runpytest(*options), remedy)
    refused(project.runpytest(*options, "-n1"), remedy)
    assert not place.exists()
    project.runpytest(*options, "--rootdir=.").assert_outcomes(passed=1)
    ignored = project.runpytest("-c", "ci/pytest.ini", "--memreq-baseline-missing=ignore")
    ignored.assert_outcomes(passed=1)


def test_nor_does_one_that_takes_the_markers_away(project):
    """What `[tool.memreq]` checks is checked no more, and so nothing would be missed."""
    project.makepyprojecttoml("[tool.pytest.ini_options]\n[tool.memreq]\nall = true")
    path = project.path / "tests" / "test_a.py"
    path.write_text(path.read_text().replace("@pytest.mark.max_gpu_memory()", ""))
    project.runpytest().assert_outcomes(passed=1)
    put(project.path / "ci" / "pytest.ini", INI)
    refused(project.runpytest("-c", "ci/pytest.ini"), "*is not there, and *")


def test_nor_does_a_directory_below(project, monkeypatch):
    (project.path / "pyproject.toml").unlink()
    monkeypatch.chdir(project.path / "tests")
    refused(project.runpytest(), f"*tests/{FILE}: is not there, and {project.path / FILE} is*")
    put(project.path / "tests" / "test_a.py", "def test_of_no_memory(): pass")
    put(project.path / "tests" / "test_b.py", TEST.format(name="b", size=1))
    refused(project.runpytest("test_b.py"), "*is not there, and*")  # it is checked
    put(project.path / "tests" / "test_b.py", "def test_of_no_memory(): pass")
    project.runpytest("test_b.py").assert_outcomes(passed=1)


def test_a_project_within_another_has_none_if_it_likes(project, monkeypatch):
    inner = project.path / "packages" / "inner"
    put(inner / "pyproject.toml", "[project]\nname = 'inner'\n[tool.pytest.ini_options]\n")
    put(inner / "test_i.py", TEST.format(name="i", size=1))
    put(inner / "conftest.py", (project.path / "tests" / "conftest.py").read_text())
    for directory in (inner, project.path):
        monkeypatch.chdir(directory)
        project.runpytest("--rootdir", inner, inner).assert_outcomes(passed=1)
    project.runpytest(NEW)  # from outside, the outer one has its tests too
    assert "packages/inner/test_i.py::test_i" in entries(project.path / FILE)
    monkeypatch.chdir(inner)
    refused(project.runpytest(), f"*inner/{FILE}: is not there, and {project.path / FILE} is*")


def test_what_is_above_the_repository_is_not_looked_for(project, monkeypatch):
    inner = project.path / "clone"
    put(inner / ".git", "gitdir: elsewhere")
    put(inner / "test_i.py", TEST.format(name="i", size=1))
    put(inner / "conftest.py", (project.path / "tests" / "conftest.py").read_text())
    project.runpytest(NEW, "--rootdir=.", inner)
    assert "clone/test_i.py::test_i" in entries(project.path / FILE)
    monkeypatch.chdir(inner)
    project.runpytest("--rootdir=.").assert_outcomes(passed=1)


def test_an_option_is_from_where_it_is_given_and_a_setting_from_its_file(project, monkeypatch):
    moved = project.path / "kept.json"
    (project.path / FILE).rename(moved)
    monkeypatch.chdir(project.path / "tests")
    project.runpytest("--memreq-baseline=../kept.json").assert_outcomes(passed=1)
    project.runpytest("--memreq-baseline=../kept.json", "-n1").assert_outcomes(passed=1)
    refused(project.runpytest("--memreq-baseline=kept.json"), "*tests/kept.json: is not there*")
    settings = put(
        project.path / "ci" / "pyproject.toml",
        '[tool.pytest.ini_options]\n[tool.memreq]\nbaseline = "../kept.json"',
    )
    result = project.runpytest("-c", settings, "--rootdir=..")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*, baseline *kept.json (1 entry)"])


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda _: None, "*missing/b.json: cannot be written: No such file or directory"),
        (lambda path: path.mkdir(parents=True), "*missing/b.json: is not *a file"),
        (
            lambda path: path.parent.mkdir() or path.symlink_to("../memreq-baseline.json"),
            "*missing/b.json: is a symbolic link; remove it*",
        ),
    ],
)
def test_what_cannot_be_written_is_refused_before_any_test(project, make, told):
    path = project.path / "missing" / "b.json"
    make(path)
    refused(project.runpytest(NEW, "--memreq-baseline", path), told)


def test_so_is_what_the_system_keeps(project, monkeypatch):
    refused(project.runpytest(NEW, "--memreq-baseline=/proc/b.json"), "*/proc/b.json: cannot be*")
    monkeypatch.setattr(os, "access", lambda path, _: not str(path).endswith(FILE))
    refused(project.runpytest("--memreq-update=all"), f"*{FILE}: cannot be written: it is read-*")


def test_what_somebody_else_wrote_meanwhile_is_not_overwritten(project):
    meanwhile = """
def test_b(card):
    card.allocate(1)
    with open({path!r}, "a") as file:
        file.write({more!r})
"""
    path = project.path / FILE
    source = TEST.format(name="a", size=2000)
    change = meanwhile.format(path=str(path), more="\n")
    put(project.path / "tests" / "test_a.py", source + change)
    assert project.runpytest("--memreq-update=all").ret == pytest.ExitCode.OK  # the same entries
    assert entries(path) == {"tests/test_a.py::test_a": 2000}
    put(project.path / "tests" / "test_a.py", TEST.format(name="a", size=3000))
    other = path.read_text().replace("2000", "2500")
    change = f"\ndef test_b():\n    open({str(path)!r}, 'w').write({other!r})\n"
    put(project.path / "tests" / "test_b.py", change)
    result = project.runpytest("--memreq-update=all")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"memreq: *{FILE}: was changed while the tests ran*"])
    assert entries(path) == {"tests/test_a.py::test_a": 2500}


def test_a_run_without_tests_says_so(project):
    result = project.runpytest(NEW, "-k", "nothing")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(["no test ran: the baseline is as it was"])


def test_an_update_of_nothing_is_a_mistake(project):
    refused(project.runpytest("--memreq=off", NEW), "*--memreq-update: *--memreq=off; leave*")


def test_tests_from_outside_the_rootdir_are_not_recorded(project):
    """Their node ids are those of others: `tests/test_a.py::test_a` is one of both files here."""
    outside = project.path.parent / f"{project.path.name}-outside"
    put(outside / "tests" / "test_a.py", TEST.format(name="a", size=5))
    put(outside / "tests" / "conftest.py", (project.path / "tests" / "conftest.py").read_text())
    options = ("--rootdir", project.path, "-c", project.path / "pyproject.toml", outside)
    project.runpytest(*options).assert_outcomes(failed=1)
    project.runpytest(*options, "--memreq-unchecked=skip").assert_outcomes(failed=1)
    result = project.runpytest(*options, "--memreq-update=all")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["not written: *test_a: unchecked: lies outside of the rootdir*"])
    assert entries(project.path / FILE) == {"tests/test_a.py::test_a": 1000}
    project.runpytest(*options, "--memreq-baseline-missing=ignore").assert_outcomes(passed=1)


TWO = TEST.format(name="a", size=1) + TEST.format(name="b", size=1)


@pytest.mark.parametrize(
    "options",
    [
        ("-o", "python_functions=test_a"),
        ("-c", "other.ini", "--rootdir=."),
        ("--noconftest", "-p", "scripted_card"),
        ("-p", "no:unittest"),
        ("--half",),
    ],
)
def test_a_run_that_collects_by_other_rules_takes_nothing_out(project, options):
    conftest = (project.path / "tests" / "conftest.py").read_text()
    put(project.path / "scripted_card.py", conftest)
    half = """
def pytest_addoption(parser):
    parser.addoption("--half", action="store_true")

def pytest_pycollect_makeitem(collector, name):
    if collector.config.getoption("half", False) and name == "test_b":
        return []
"""
    put(project.path / "tests" / "conftest.py", conftest + half)
    put(project.path / "other.ini", "[pytest]\npython_functions = test_a\n")
    put(project.path / "tests" / "test_a.py", TWO)
    project.runpytest("--memreq-update=all").assert_outcomes(passed=2)
    unittest = TEST.format(name="a", size=1)
    if options[-1] == "no:unittest":
        put(project.path / "tests" / "test_a.py", unittest)
    result = project.runpytest_subprocess(*options, "--memreq-update=all")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines([f"entries of tests that are gone *because of {options[0]}*"])
    assert set(entries(project.path / FILE)) == {f"tests/test_a.py::test_{n}" for n in "ab"}


def test_an_option_of_the_settings_is_the_projects_own(project):
    project.makepyprojecttoml('[tool.pytest.ini_options]\naddopts = ["-p", "no:cacheprovider"]')
    put(project.path / "tests" / "test_a.py", TEST.format(name="c", size=1))
    project.runpytest(NEW).stdout.fnmatch_lines(["baseline: 1 new, 1 gone"])


@pytest.mark.parametrize("where", ["settings", "command"])
def test_strictness_leaves_no_test_out(project, where):
    options = ["--strict-markers", "--strict-config"]
    if where == "settings":
        project.makepyprojecttoml(f"[tool.pytest.ini_options]\naddopts = {options}")
    put(project.path / "tests" / "test_a.py", TEST.format(name="c", size=1))
    given = options if where == "command" else []
    project.runpytest(NEW, *given).stdout.fnmatch_lines(["baseline: 1 new, 1 gone"])


def two_ranks(project, *options):
    """The exit status of each, and what the first printed."""
    variables = {**os.environ, "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "pytest", *options],
            cwd=project.path,
            env={**variables, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=100)[0].decode() for process in processes]
    return [process.returncode for process in processes], outputs


def test_figures_are_of_so_many_ranks(project):
    statuses, outputs = two_ranks(project)
    assert statuses == [1, 1]
    assert "not in the baseline for measured on Scripted card" in outputs[0]
    assert ", 2 ranks, nor comparable" in outputs[0]
    statuses, _ = two_ranks(project, NEW)
    assert statuses == [0, 0]
    *found, _ = json.loads((project.path / FILE).read_text())["entries"]
    assert [each["device"]["world_size"] for each in found] == [1, 2]


def test_a_rank_that_does_not_write_does_not_say_that_it_did(project):
    _, (first, second) = two_ranks(project, NEW, "--memreq-report")
    said = "the baseline is written by the first rank (RANK=0), not by"
    assert said in second
    assert said not in first
    report = json.loads((project.path / "memreq-report" / "memreq.json").read_text())
    assert report["environment"]["world_size"] == 2
    reasons = {row["rank"]: row["reason"] for row in report["tests"][0]["ranks"]}
    assert reasons[1] == "not in the baseline before, for the first rank to record"


@pytest.mark.parametrize(
    ("name", "value"),
    [("WORLD_SIZE", "0"), ("WORLD_SIZE", "two"), ("WORLD_SIZE", "9" * 99), ("RANK", "-1")],
)
def test_ranks_that_are_no_numbers_end_the_run(project, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    refused(project.runpytest(), f"*{name}='{value[:40]}': is not a number from *")


def test_figures_of_another_torch_are_counted(project):
    path = project.path / FILE
    text = path.read_text()
    start = text.index('"torch": "') + len('"torch": "')
    path.write_text(text[:start] + "1.9" + text[text.index('"', start) :])
    result = project.runpytest()
    result.assert_outcomes(passed=1)
    told = "1 figure was held against the baseline of torch 1.9 instead of 2.*, tolerance 0 %, 0 B*"
    result.stdout.fnmatch_lines([told])


def test_what_is_expected_to_fail_shows_what_grew(project):
    path = project.path / "tests" / "test_a.py"
    source = TEST.format(name="a", size=1001)
    path.write_text(source.replace("@pytest", "@pytest.mark.xfail\n@pytest", 1))
    result = project.runpytest()
    result.assert_outcomes(xfailed=1)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*GPU memory*", "regressed*", "*+1 bytes (+0.10%)*"])
