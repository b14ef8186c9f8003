"""A suite that means ill, on a CI server: what we add to its output and its files stays text."""

import json
import os
import re
import unicodedata
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_memreq.cli import main
from pytest_memreq.reports.annotations import RUNNERS
from pytest_memreq.reports.files import REPORTS
from pytest_memreq.strict_json import parse
from tests.reports.hostile import NAMES
from tests.reports.runners import commands_of

SUITE = '''
"""##vso[task.setvariable variable=x]y
::error::of a docstring"""
import pytest

IDS = {ids!a}

@pytest.mark.max_gpu_memory(100)
@pytest.mark.parametrize("size", [10, 200] * len(IDS), ids=[i for i in IDS for _ in "ab"])
def test_a(card, size):
    """::error::of a test\\x1b[31m"""
    card.allocate(size)
'''
UNSEEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
ON_GITHUB = {"GITHUB_ACTIONS": "true", "CI": ""}


@contextmanager
def chdir(path):
    before = Path.cwd()
    os.chdir(path)
    yield
    os.chdir(before)


def names():
    return [name[:50] for name in NAMES if name and "\0" not in name]


def run(pytester, *options, cwd=None):
    """In a process of its own: pytest's own escapes of ids are part of what is tested.

    Without pytest's cache, which cannot be written where a name is no text.
    """
    path = pytester.path if cwd is None else cwd
    with chdir(path):
        return pytester.runpytest_subprocess(
            "--memreq-report", "-q", "-p", "no:cacheprovider", *options, timeout=120
        )


def check_output(lines):
    text = "\n".join(lines)
    assert {unicodedata.category(c) for c in text} & UNSEEN <= {"Cc"}  # of newlines
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
    for line in lines:
        for vendor in RUNNERS:
            for command in commands_of(vendor, line):
                assert (vendor, command.name) in (("github", "error"), ("github", "warning"))
                assert command.properties["title"].startswith("GPU memory")


def ours(result):
    """From our section on, annotations among it."""
    lines = [*map(str, result.outlines)]
    at = next(n for n, line in enumerate(lines) if "= GPU memory =" in line)
    end = next((n for n, line in enumerate(lines) if n > at and "short test summary" in line), None)
    return lines[at:end]


def test_hostile_parameters_on_a_ci_server(scripted, monkeypatch, capsys):
    for name, value in ON_GITHUB.items():
        monkeypatch.setenv(name, value)
    scripted.makepyfile(test_suite=SUITE.format(ids=names()))
    result = run(scripted, "--tb=no", "--memreq-update=all", "--memreq-update-in-ci")
    assert result.ret == 1
    lines = ours(result)
    check_output(lines)
    assert len(commands_of("github", "\n".join(lines))) == 9  # eight, and how many more
    directory = scripted.path / "memreq-report"
    report = parse((directory / "memreq.json").read_bytes(), "report")
    assert len(report["tests"]) == 2 * len(names())
    capsys.readouterr()  # what pytest printed
    assert main(["render", str(directory)]) == 1
    check_output(capsys.readouterr().out.splitlines())
    for name in REPORTS:
        check_output((directory / name).read_text(encoding="utf-8").splitlines())
    # What was recorded is found again, test by test.
    assert main(["baseline", "update", str(directory), "--dry-run"]) == 1
    again = run(scripted, "--tb=no", "-k", "10 or a", "--memreq-budget=1GB")
    assert again.ret == 1
    tests = parse((directory / "memreq.json").read_bytes(), "report")["tests"]
    within = [test for test in tests if test["verdict"] == "within"]
    assert len(within) == len(names())
    assert all(test["baseline"]["verdict"] == "within" for test in within)


@pytest.mark.parametrize(
    "name",
    [b"a\nb", b"\x1b[31m", b'"><script>', b" ", b"\xff\xfe", b"##vso[task.x y]z", b"::error::x"],
)
def test_a_hostile_directory(scripted, monkeypatch, capsys, name):
    for key, value in ON_GITHUB.items():
        monkeypatch.setenv(key, value)
    directory = scripted.path / os.fsdecode(name)
    try:
        directory.mkdir()
    except OSError:
        pytest.skip("the file system takes no such name")
    (directory / "test_a.py").write_text(SUITE.format(ids=["x"]))
    scripted.makeini("[pytest]")
    # -rN: pytest's own summary shows the bytes of a name as they are.
    result = run(scripted, "--tb=no", "-rN", "--memreq-update=all", "--memreq-update-in-ci")
    check_output(ours(result))
    report = scripted.path / "memreq-report"
    tests = parse((report / "memreq.json").read_bytes(), "report")["tests"]
    assert [test["verdict"] for test in tests] == ["within", "over"]
    for file in REPORTS:
        check_output((report / file).read_text(encoding="utf-8").splitlines())
    capsys.readouterr()  # what pytest printed
    assert main(["baseline", "show", str(scripted.path / "memreq-baseline.json")]) == 0
    check_output(capsys.readouterr().out.splitlines())


@pytest.mark.parametrize(
    "arguments",
    [
        *("10**5000", "gpu=10**5000", "isolate=10**5000", "enforce=10**5000", "gpu=[10**5000]"),
        *('float("nan")', 'float("inf")', "True", "-1", "2**63", "1e308", '"1e9"', '"-1MiB"'),
        *('"1,5 GiB"', '"\\u0661 GiB"', r'gpu="\x1b[31m\n::error::x"', r'"\x1b[31m\n::error::x"'),
        *('tolerance="##vso[task.x y]z"', "[]", "{}", 'b"1 GiB"', "x=1"),
    ],
)
def test_a_hostile_marker_is_one_line(pytester, arguments):
    pytester.makepyfile(
        f"import pytest\n@pytest.mark.max_gpu_memory({arguments})\ndef test_a(): pass\n"
    )
    result = pytester.runpytest("--memreq=simulate")
    assert result.ret == 4
    (line,) = [line for line in map(str, result.errlines) if line]
    assert line.startswith("ERROR: test_a_hostile_marker_is_one_line.py::test_a: max_gpu_memory")
    check_output([line])


@pytest.mark.parametrize("given", ["x", "[]", '{"nodeid": 1}', "{" * 99_999])
def test_a_task_that_is_none_is_one_line(pytester, monkeypatch, given):
    monkeypatch.setenv("PYTEST_MEMREQ_ISOLATED", given)
    pytester.makepyfile("def test_a(): pass")
    result = pytester.runpytest()
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: PYTEST_MEMREQ_ISOLATED: *"])


def test_a_pytest_that_an_isolated_test_starts_is_another_run(scripted):
    scripted.makepyfile(
        test_a="""
        import os, pytest
        @pytest.mark.max_gpu_memory(100, isolate=True)
        def test_a(card):
            card.allocate(10)
            assert not [name for name in os.environ if name.startswith("PYTEST_MEMREQ")]
        """
    )
    scripted.runpytest_subprocess("--memreq-report").assert_outcomes(passed=1)


def test_nothing_says_where_or_who_it_was(pytester, monkeypatch):
    """Node ids, file names and lines are relative to the rootdir."""
    marks = {
        name: f"{name.lower()}-marker-7391" for name in ("USER", "HOSTNAME", "LOGNAME", "TOKEN")
    }
    home = pytester.path / "home-marker-7391"
    project = home / "project-marker-7391"
    project.mkdir(parents=True)
    for name, value in {
        **marks,
        "HOME": str(home),
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }.items():
        monkeypatch.setenv(name, value)
    (project / "pytest.ini").write_text("[pytest]\n")
    (project / "model.py").write_text(
        "import torch\ndef make(): return torch.ones(2**20, device='cuda')\n"
    )
    (project / "test_a.py").write_text(
        "import pytest, torch\nfrom model import make\n"
        "@pytest.mark.max_gpu_memory('8 MiB')\ndef test_a():\n    x = make()\n"
        "@pytest.mark.max_gpu_memory('1 KiB')\ndef test_b():\n    x = make()\n"
        "@pytest.mark.max_gpu_memory('1 KiB')\ndef test_c():\n    raise ValueError(__name__)\n"
        "@pytest.mark.max_gpu_leak('0 B')\ndef test_d():\n    KEPT.append(make())\nKEPT = []\n"
    )
    options = ("--memreq-update=all", "--memreq-update-in-ci", "--memreq=simulate", "--tb=no")
    result = run(pytester, *options, cwd=project)
    assert result.ret == 1
    files = [path for path in project.rglob("memreq*/*") if path.is_file()]
    files += [project / "memreq-baseline.json"]
    assert {path.name for path in files} == {*REPORTS, "memreq-baseline.json"}
    said = {path.name: path.read_text(encoding="utf-8") for path in files}
    said["output"] = "\n".join(ours(result))
    assert "model.py:2" in said["memreq.json"]
    assert [name for name, text in said.items() if "7391" in text] == []
    assert [name for name, text in said.items() if str(pytester.path) in text] == []
    assert json.loads(said["memreq.json"])["summary"]["over"] == 2
