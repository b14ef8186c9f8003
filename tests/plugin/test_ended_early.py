"""Runs that are killed, interrupted or cannot begin: never green, and what was found is kept."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pytest_memreq.cli import main
from pytest_memreq.reports.files import write_reports
from pytest_memreq.results import Results, TestResult
from tests.plugin.conftest import SCRIPTED

TESTS = 12
WHOLE = [1 + number for number in range(TESTS)]
SUITE = f"""
    import time, pytest

    @pytest.mark.max_gpu_memory(1000)
    @pytest.mark.parametrize("number", range({TESTS}))
    def test_step(card, number):
        card.allocate(1 + number)
        time.sleep(0.02)
"""


@pytest.fixture
def suite(tmp_path):
    """A directory with the suite, that can be copied."""
    directory = tmp_path / "suite"
    directory.mkdir()
    shutil.copy(SCRIPTED, directory / "conftest.py")
    (directory / "test_it.py").write_text(textwrap.dedent(SUITE))
    (directory / "pytest.ini").touch()
    return directory


def report_of(directory):
    return json.loads((directory / "memreq-report" / "memreq.json").read_text())


def sizes_of(report):
    return sorted(test["peak"]["allocated_bytes"] for test in report["tests"])


def start(directory, *options, **more):
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--memreq-report",
        "-pno:cacheprovider",
        "-pno:randomly",
    ]
    return subprocess.Popen(
        [*command, *options],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **more,
    )


def run(directory, *options, **more):
    process = start(directory, *options, **more)
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


def render(directory):
    return main(["render", str(directory / "memreq-report")])


def leave_green_report(directory):
    """As an earlier run's in a workspace that is used again."""
    test = TestResult(nodeid="a", mode="measured", verdict="within", reason="fits")
    write_reports(directory / "memreq-report", Results(tests=(test,)))
    assert render(directory) == 0


def killed(directory, seconds, *options):
    process = start(directory, *options)
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)


@pytest.mark.parametrize(("options", "kills"), [((), 13), (("-n2",), 7)], ids=["alone", "workers"])
def test_a_run_that_is_killed_at_any_moment_is_never_green(suite, options, kills):
    began = time.monotonic()
    assert run(suite, *options)[0] == 0
    most_seconds = time.monotonic() - began
    shutil.rmtree(suite / "memreq-report")
    copies = [suite.with_name(f"copy{number}") for number in range(kills)]
    for copy in copies:
        shutil.copytree(suite, copy)
    with ThreadPoolExecutor(2) as pool:
        for copy in copies:
            seconds = random.uniform(0.3, 1.1) * most_seconds
            pool.submit(killed, copy, seconds, *options)
    for copy in copies:
        code = render(copy)
        if not (copy / "memreq-report").exists():
            assert code == 4
            continue
        report = report_of(copy)
        if report["status"] == "complete":
            assert (code, sizes_of(report)) == (0, WHOLE)
        else:
            assert code == 2
            assert set(sizes_of(report)) <= set(WHOLE)


def test_a_killed_runs_figures_are_kept(suite, capsys):
    process = start(suite)
    journal = suite / "memreq-report" / "journal.jsonl"
    while not journal.exists() or journal.read_text().count('"judged"') < 3:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert render(suite) == 2
    report = report_of(suite)
    assert len(report["tests"]) >= 3
    assert set(sizes_of(report)) <= set(WHOLE)
    told = capsys.readouterr().out
    assert len(report["running"]) <= 1  # none between two tests
    assert all(f"Running when it ended: {nodeid}" in told for nodeid in report["running"])


def test_a_test_that_ends_the_process_is_named(suite):
    with (suite / "test_it.py").open("a") as file:
        file.write("\ndef test_end():\n    import os\n    os._exit(0)\n")
    assert run(suite)[0] == 0  # as the system has it
    assert report_of(suite)["status"] == "incomplete"
    assert render(suite) == 2
    assert report_of(suite)["running"] == ["test_it.py::test_end"]
    assert sizes_of(report_of(suite)) == WHOLE


@pytest.mark.parametrize(
    "line",
    ["raise KeyboardInterrupt", "import pytest; pytest.exit('enough')", "assert not exit()"],
)
def test_a_run_that_is_broken_off_is_incomplete(suite, line):
    with (suite / "test_it.py").open("a") as file:
        file.write(f"\ndef test_end():\n    {line}\n\ndef test_after():\n    pass\n")
    code, output = run(suite)
    assert code != 0
    report = report_of(suite)
    is_over = "exit()" in line  # which is a failed test to pytest
    assert report["status"] == ("complete" if is_over else "incomplete")
    assert sizes_of(report) == WHOLE
    assert ("The run did not finish" in output) != is_over
    assert not (suite / "memreq-report" / "journal.jsonl").exists()


@pytest.mark.parametrize("options", [("-x",), ("--maxfail=1", "-n2")], ids=["alone", "workers"])
def test_a_run_that_stops_at_a_failure_is_incomplete(suite, options):
    test = "\ndef test_bad(number):\n    assert number\n"
    content = (suite / "test_it.py").read_text()
    (suite / "test_a.py").write_text(content.partition("@")[0] + test.replace("number", ""))
    assert run(suite, *options)[0] != 0
    assert report_of(suite)["status"] == "incomplete"
    assert render(suite) == 2


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("conftest.py", "raise ValueError", ()),
        ("conftest.py", "def pytest_configure(): raise ValueError", ()),
        ("pytest.ini", "[pytest]\n", ("--no-such-option",)),
    ],
)
def test_what_cannot_begin_leaves_no_earlier_green_report(suite, name, content, options):
    leave_green_report(suite)
    (suite / name).write_text(content)
    assert run(suite, *options)[0] != 0
    assert render(suite) == 2


def test_what_runs_nothing_leaves_the_report(suite):
    leave_green_report(suite)
    for option in ("--collect-only", "--markers"):
        assert run(suite, option)[0] == 0
        assert report_of(suite)["status"] == "complete"


def test_a_fork_writes_no_journal(suite):
    with (suite / "test_it.py").open("a") as file:
        file.write(textwrap.dedent(FORK))
    assert run(suite)[0] == 0
    assert sizes_of(report_of(suite)) == WHOLE


FORK = """
def test_end(pytestconfig):
    import os
    hook = pytestconfig.hook
    before = open("memreq-report/journal.jsonl").read()
    child = os.fork()
    if not child:
        hook.pytest_runtest_logstart(nodeid="child", location=("", 0, ""))
        os._exit(0)
    os.waitpid(child, 0)
    assert open("memreq-report/journal.jsonl").read() == before
"""


def test_a_journal_that_cannot_be_written_does_not_end_the_run(suite):
    with (suite / "conftest.py").open("a") as file:
        file.write(textwrap.dedent(FULL))
    code, output = run(suite)
    assert code == 0
    assert "journal.jsonl: cannot be written: " in output
    assert sizes_of(report_of(suite)) == WHOLE


FULL = """
import os
real = os.write

def write(file, content):
    if b'"judged"' in content:
        raise OSError(28, "No space left on device")
    return real(file, content)

os.write = write
"""


def test_where_reports_cannot_be_written_the_journal_is_kept(suite):
    with (suite / "test_it.py").open("a") as file:
        file.write(textwrap.dedent(IN_THE_WAY))
    code, output = run(suite)
    assert code == 1
    assert "memreq.xml: cannot be written: it is not a file; memreq render " in output
    (suite / "memreq-report" / "memreq.xml").rmdir()
    # The JSON file was written, and says all.
    assert render(suite) == 0
    assert sizes_of(report_of(suite)) == WHOLE


IN_THE_WAY = """
def test_end():
    import pathlib
    path = pathlib.Path("memreq-report/memreq.xml")
    path.unlink()
    path.mkdir()
"""
