"""The test suite on the installed torch: what passes, what is skipped and what fails.

`python -m benchmarks.versions` runs `tests` in two processes and keeps the counts and the names of
what failed beside those of other versions of torch. `python -m benchmarks` leaves it out: it is the
suite itself, and other versions have to be installed first.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from benchmarks.results import Benchmark, Run, markdown, run

ROOT = Path(__file__).parent.parent


def measure() -> dict[str, Any]:
    """Counts by outcome, and the tests that failed."""
    with tempfile.TemporaryDirectory() as name:
        report = Path(name, "junit.xml")
        command = [sys.executable, "-m", "pytest", "-n", "2", "-q", f"--junitxml={report}", "tests"]
        subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.DEVNULL)
        cases = list(ET.parse(report).iter("testcase"))
    failed = [c for c in cases if c.find("failure") is not None or c.find("error") is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    return {
        "passed": len(cases) - len(failed) - skipped,
        "skipped": skipped,
        "failed": sorted(f"{case.get('classname')}::{case.get('name')}" for case in failed),
    }


def tables(runs: Mapping[str, Run]) -> dict[str, str]:
    """Counts by torch, and how many of each test function failed."""
    counts = [
        (torch, kept.found["passed"], kept.found["skipped"], len(kept.found["failed"]))
        for torch, kept in runs.items()
    ]
    functions: dict[str, dict[str, int]] = {}
    for torch, kept in runs.items():
        for name in kept.found["failed"]:
            by_torch = functions.setdefault(re.sub(r"\[.*", "", name, flags=re.DOTALL), {})
            by_torch[torch] = by_torch.get(torch, 0) + 1
    return {
        "about": "\n".join(f"- {kept.about}" for kept in runs.values()),
        "counts": markdown(("torch", "passed", "skipped", "failed"), counts),
        "failed": markdown(
            ("failed", *runs),
            [
                (f"`{name}`", *(by.get(t, 0) for t in runs))
                for name, by in sorted(functions.items())
            ],
        ),
    }


BENCHMARK = Benchmark(name="versions", measure=measure, tables=tables, by_torch=True)

if __name__ == "__main__":
    run(BENCHMARK)
