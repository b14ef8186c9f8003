"""A long simulation says how far it is: on a terminal, and nowhere else."""

import os
import re
import subprocess
import sys

import pytest

from tests.plugin.citizen import WITHOUT_TORCH
from tests.plugin.conftest import SCRIPTED

pty = pytest.importorskip("pty")

# Four seconds pass each time that somebody looks at the clock.
CLOCK = """
import itertools
import pytest_memreq.plugin.progress as progress

progress._now = itertools.count(step=4.0).__next__
"""
LONG = """
import pytest, torch

@pytest.mark.max_gpu_memory("1 GiB")
def test_long(capsys):
    print("of the test")
    tensor = torch.ones(10, device="cuda")
    for _ in range(1100):
        tensor + 1
    assert capsys.readouterr().out == "of the test\\n"

@pytest.mark.max_gpu_memory("1 GiB")
def test_short():
    tensor = torch.ones(10, device="cuda")
    for _ in range(500):
        tensor + 1
"""
TOLD = re.compile(r"simulating test_suite\.py::test_(\w+): ([\d,]+) operators, (\d+) s")


def on_a_terminal(directory, *options):
    """What a run shows on a terminal, and its status."""
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "pytest", "--memreq=simulate", *options]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST_")}
    with subprocess.Popen(
        command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=its, stderr=its
    ) as process:
        os.close(its)
        shown = b"".join(iter(lambda: _read(ours), b""))
    os.close(ours)
    return shown.decode(), process.returncode


def _read(handle):
    try:
        return os.read(handle, 4096)
    except OSError:  # Linux says so once nobody has the other end
        return b""


def test_a_terminal_shows_how_far_a_long_simulation_is_on_one_line(pytester):
    pytester.makeconftest(CLOCK)
    pytester.makepyfile(test_suite=LONG)
    shown, status = on_a_terminal(pytester.path)
    assert status == pytest.ExitCode.OK
    assert TOLD.findall(shown) == [("long", "768", "12"), ("long", "1,024", "16")]
    assert len([line for line in shown.split("\n") if TOLD.search(line)]) == 1  # written over
    assert "of the test" not in shown
    assert "[100%]" in shown


def test_without_a_terminal_nothing_is_shown(pytester):
    pytester.makeconftest(CLOCK)
    pytester.makepyfile(test_suite=LONG)
    result = pytester.runpytest("--memreq=simulate")
    result.assert_outcomes(passed=2)
    assert "simulating" not in result.stdout.str() + result.stderr.str()


ASKED = """
import os, pathlib, pytest

def pytest_runtest_setup(item):
    who = os.environ.get("PYTEST_XDIST_WORKER", "here")
    is_told = item.config.pluginmanager.has_plugin("memreq-progress")
    pathlib.Path(who).write_text(str(is_told))
"""


@pytest.mark.parametrize(
    ("options", "who", "is_told"),
    [
        ((), "here", True),
        (("-v",), "here", True),
        (("-q",), "here", False),
        (("-s",), "here", False),
        (("-p", "no:terminal"), "here", False),
        (("-n1",), "gw0", False),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_on_a_terminal_it_is_told_unless_somebody_did_not_want_it(pytester, options, who, is_told):
    pytester.makeconftest(WITHOUT_TORCH + SCRIPTED.read_text() + ASKED)
    pytester.makepyfile(test_suite="def test_scripted(memreq):\n    pass\n")
    on_a_terminal(pytester.path, "--memreq=measure", *options)
    assert (pytester.path / who).read_text() == str(is_told)
