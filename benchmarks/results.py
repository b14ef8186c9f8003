"""What a benchmark found: a file of data with its date, machine and versions, and tables of it."""

import json
import os
import platform
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "data" / "results"
PACKAGES = ("pytest", "pytest-memreq")


@dataclass(frozen=True, kw_only=True)
class Run:
    """What was found, when, where, and in how many seconds; versions by package."""

    date: str
    system: str
    cores: int
    versions: Mapping[str, str]
    seconds: float
    found: Any

    @property
    def about(self) -> str:
        """A line of it for a document."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"{self.date}, {self.system}, {self.cores} cores, {versions}; {self.seconds:.0f} s."


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """`measure` gives what JSON can hold; `tables` makes Markdown of its runs, by name of a table.

    With `by_torch` there is a run of every torch that it was measured with, else the last alone.
    `packages` are those whose versions matter beside torch. One that `is_timed` runs alone.
    """

    name: str
    measure: Callable[[], Any]
    tables: Callable[[Mapping[str, Run]], Mapping[str, str]]
    by_torch: bool = False
    packages: tuple[str, ...] = ()
    is_timed: bool = True

    @property
    def path(self) -> Path:
        """Where its results are."""
        return RESULTS / f"{self.name}.json"


def load(benchmark: Benchmark) -> dict[str, Run]:
    """Runs that were kept, by minor version of torch, in its order."""
    if not benchmark.path.exists():
        return {}
    kept = json.loads(benchmark.path.read_text(encoding="utf-8"))
    return {torch: Run(**run) for torch, run in kept.items()}


def texts(benchmark: Benchmark) -> dict[str, str]:
    """All tables of what was kept, by `benchmark.table`."""
    runs = load(benchmark)
    tables = benchmark.tables(runs) if runs else {}
    return {f"{benchmark.name}.{table}": text for table, text in tables.items()}


def run(benchmark: Benchmark) -> None:
    """Measure, keep, and print the tables."""
    began = time.perf_counter()
    found = benchmark.measure()
    seconds = time.perf_counter() - began
    versions = {
        "Python": platform.python_version(),
        "torch": torch.__version__,  # what ran; there may be another's metadata
        **{name: metadata.version(name) for name in (*PACKAGES, *benchmark.packages)},
    }
    now = Run(
        date=datetime.now(timezone.utc).date().isoformat(),
        system=f"{platform.system()} {platform.machine()}",
        cores=os.cpu_count() or 0,
        versions=versions,
        seconds=round(seconds, 1),
        found=found,
    )
    minor = ".".join(versions["torch"].split(".")[:2])
    runs = {**(load(benchmark) if benchmark.by_torch else {}), minor: now}
    keep(benchmark, dict(sorted(runs.items(), key=lambda item: _number(item[0]))))
    for name, text in texts(benchmark).items():
        print(f"{name}\n\n{text}\n", flush=True)


def keep(benchmark: Benchmark, runs: Mapping[str, Run]) -> None:
    """Write the file, a line a row of what was found."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = json.dumps({torch: asdict(each) for torch, each in runs.items()}, indent=1)
    benchmark.path.write_text(text + "\n", encoding="utf-8")


def _number(minor: str) -> tuple[int, ...]:
    return tuple(map(int, minor.split(".")))


def resident_bytes() -> int:
    """The peak of this process so far; Linux gives kibibytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def markdown(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """A table; without rows, a line that says so."""
    if not rows:
        return "None."
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
