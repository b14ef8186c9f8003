"""What the plugin costs a run: of tests that it has nothing to do with, and of those it checks.

`python -m benchmarks.overhead`: each run is a pytest of its own, without other plugins. Runs with
and without the plugin take turns, and the ratio is taken pair by pair, so that a machine whose
speed drifts does not count. Seconds are processor time, user and system, which others on the
machine disturb less than the clock.
"""

import ast
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.results import Benchmark, Run, markdown, run

PLUGIN = ("-p", "pytest_memreq.plugin")
ROOT = Path(__file__).parent.parent
TESTS_IN_A_FILE = 500
PLAIN = """
import pytest

@pytest.mark.parametrize("number", range({count}))
def test_step(number):
    pass
"""
CHECKED = """
import pytest

@pytest.mark.max_gpu_memory(1000)
@pytest.mark.parametrize("number", range({count}))
def test_step(number, card):
    card.allocate(10)
"""
# torch is not what is measured: its version is asked for, and takes seconds to import.
WITHOUT_TORCH = """
import sys, types

versions = types.ModuleType("pytest_memreq.measure.versions")
versions.torch_versions = lambda: ("2.13.0", None)
sys.modules[versions.__name__] = versions
"""
# What it does in a run that nothing asks it for, timed where it does it: no other run is compared.
OWN = """
import time
import pytest_memreq.plugin as plugin
from pytest_memreq.plugin import dormant

spent = {}

def timed(module, name):
    function = getattr(module, name)

    def call(*given):
        start = time.process_time()
        found = function(*given)
        spent[name] = spent.get(name, 0) + time.process_time() - start
        return found

    setattr(module, name, call)

for module, name in ((plugin, "is_addressed"), (dormant, "asks_for_us"), (dormant, "any_asks")):
    timed(module, name)

def pytest_unconfigure():
    print(f"spent: {spent}", f"whole: {time.process_time()}", sep="\\n")
"""
START = """
import time
import pytest
from _pytest.config import get_config

start = time.process_time()
get_config().pluginmanager.import_plugin("pytest_memreq.plugin")
print(time.process_time() - start)
"""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Processor seconds of runs with and without the plugin, in the order in which they were."""

    what: str
    tests: int
    with_seconds: tuple[float, ...]
    without_seconds: tuple[float, ...] = ()

    @property
    def seconds(self) -> float:
        """The median with the plugin."""
        return statistics.median(self.with_seconds)

    @property
    def overhead(self) -> float | None:
        """The median of the pairs' ratios, less one."""
        pairs = list(zip(self.with_seconds, self.without_seconds, strict=False))
        return statistics.median(a / b for a, b in pairs) - 1 if pairs else None


def write_suite(directory: Path, source: str, tests: int) -> None:
    """So many tests, in files of some hundred."""
    (directory / "pytest.ini").write_text("[pytest]\n")
    scripted = (ROOT / "tests" / "plugin" / "scripted.py").read_text(encoding="utf-8")
    if source is CHECKED:
        (directory / "conftest.py").write_text(WITHOUT_TORCH + scripted, encoding="utf-8")
    for at in range(0, tests, TESTS_IN_A_FILE):
        text = source.format(count=min(TESTS_IN_A_FILE, tests - at))
        (directory / f"test_{at}.py").write_text(text, encoding="utf-8")


def cpu_seconds(directory: Path, options: Iterable[str]) -> float:
    """Processor time of one run."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, cwd=directory, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(said.decode())
    return usage.ru_utime + usage.ru_stime


def beside(what: str, tests: int, runs: int) -> Timing:
    """Unmarked tests with the plugin and without it, in turn."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_suite(directory, PLAIN, tests)
        cpu_seconds(directory, PLUGIN)  # modules are compiled
        pairs = [(cpu_seconds(directory, PLUGIN), cpu_seconds(directory, ())) for _ in range(runs)]
    with_plugin, without = zip(*pairs, strict=True)
    return Timing(what=what, tests=tests, with_seconds=with_plugin, without_seconds=without)


def own(tests: int, runs: int) -> dict[str, float]:
    """Seconds of what the plugin does itself among so many unmarked tests, the least of each."""
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    found: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as name:
        write_suite(Path(name), PLAIN, tests)
        Path(name, "conftest.py").write_text(OWN, encoding="utf-8")
        commands = {
            "start": [sys.executable, "-c", START],
            "run": [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *PLUGIN],
        }
        for _ in range(runs):
            said = {
                kind: subprocess.check_output(command, cwd=name, env=environment, text=True)
                for kind, command in commands.items()
            }
            spent, whole = re.findall(r"(?:spent|whole): (.*)", said["run"])
            figures = {"start": float(said["start"]), **ast.literal_eval(spent)}
            found.append({**figures, "whole": float(whole)})
    return {what: min(each[what] for each in found) for what in found[0]}


def checked(sizes: Iterable[int], runs: int) -> list[Timing]:
    """Suites of checked tests on the scripted device of the tests, in turn."""
    seconds: dict[int, list[float]] = {tests: [] for tests in sizes}
    with tempfile.TemporaryDirectory() as name:
        for tests in seconds:
            directory = Path(name, str(tests))
            directory.mkdir()
            write_suite(directory, CHECKED, tests)
        for _ in range(runs):
            for tests, found in seconds.items():
                found.append(cpu_seconds(Path(name, str(tests)), PLUGIN))
    return [Timing(what="checked", tests=n, with_seconds=tuple(s)) for n, s in seconds.items()]


def beside_memray(tests: int, runs: int) -> dict[str, list[float]]:
    """Seconds of small tests of numbers alone, by what looks at them, in turn.

    pytest-memray runs once: a run of it takes twenty times as long as the others.
    """
    kinds = {
        "nothing": ((), runs),
        "memreq": (PLUGIN, runs),
        "pytest-memray": (("-p", "pytest_memray.plugin", "--memray"), 1),
    }
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_suite(directory, PLAIN, tests)
        cpu_seconds(directory, PLUGIN)  # modules are compiled
        for turn in range(runs):
            for kind, (options, turns) in kinds.items():
                if turn < turns:
                    seconds[kind].append(cpu_seconds(directory, options))
    return seconds


def measure(tests: int = 10_000, runs: int = 5) -> dict[str, Any]:
    """Runs of each kind."""
    plain = [beside("one test", 1, 2 * runs), beside("unmarked", tests, runs)]
    linear = checked([tests // 10, tests // 4, tests // 2, tests], max(1, runs // 2))
    return {
        "timings": [asdict(each) for each in (*plain, *linear)],
        "own": own(tests, max(1, runs // 2)),
        "beside": {"tests": tests // 5, "seconds": beside_memray(tests // 5, 2 * runs)},
    }


def tables(runs: Mapping[str, Run]) -> dict[str, str]:
    """Of tests that nothing checks, of checked ones, and beside pytest-memray."""
    (kept,) = runs.values()
    timings = [Timing(**each) for each in kept.found["timings"]]
    return {
        "about": kept.about,
        "unchecked": markdown(
            ("tests that nothing checks", "seconds without", "with", "difference"),
            [
                (
                    f"{each.tests:,}",
                    *(f"{statistics.median(each.without_seconds):.3f}", f"{each.seconds:.3f}"),
                    f"{each.overhead:+.1%}",
                )
                for each in timings
                if each.overhead is not None
            ],
        ),
        "own": markdown(
            ("what the plugin does itself in a run of 10,000 of them", "milliseconds"),
            own_rows(kept.found["own"]),
        ),
        "checked": markdown(
            ("checked tests, on a scripted device", "seconds", "milliseconds a test"),
            [
                (f"{t.tests:,}", f"{t.seconds:.2f}", f"{t.seconds / t.tests * 1000:.2f}")
                for t in timings
                if t.overhead is None
            ],
        ),
        "beside": markdown(
            (f"{kept.found['beside']['tests']:,} small tests with", "seconds", "beside nothing"),
            beside_rows(kept.found["beside"]["seconds"]),
        ),
    }


OWN_WORDS = {
    "start": "being imported, and adding its options",
    "is_addressed": "looking for options and settings of its own",
    "asks_for_us": "looking for its names in modules of tests",
    "any_asks": "looking for markers and the fixture",
}


def own_rows(found: Mapping[str, float]) -> list[tuple[str, str]]:
    """Each part, and all of them beside the whole run."""
    total = sum(found[what] for what in OWN_WORDS)
    rows = [(told, f"{found[what] * 1000:.1f}") for what, told in OWN_WORDS.items()]
    share = f"{total * 1000:.1f}, {total / found['whole']:.1%} of the run"
    return [*rows, ("all of it", share)]


def beside_rows(seconds: Mapping[str, list[float]]) -> list[tuple[str, str, str]]:
    """The median of each, and of the ratios to the run of the same turn with nothing."""
    rows = []
    for kind, found in seconds.items():
        ratios = [a / b for a, b in zip(found, seconds["nothing"], strict=False)]
        rows.append(
            (kind, f"{statistics.median(found):.2f}", f"{statistics.median(ratios) - 1:+.1%}")
        )
    return rows


BENCHMARK = Benchmark(name="overhead", measure=measure, tables=tables, packages=("pytest-memray",))

if __name__ == "__main__":
    run(BENCHMARK)
