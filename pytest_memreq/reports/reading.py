"""Read what runs wrote, reports and baselines, by whomever they may have been changed since."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from pytest_memreq.errors import MemreqError
from pytest_memreq.gate.baseline import Baseline
from pytest_memreq.gate.baseline_text import from_text
from pytest_memreq.reports.files import read_whole
from pytest_memreq.results import FORMAT, Results
from pytest_memreq.strict_json import build, check_format, parse, shown

MAX_REPORT_BYTES = 256 * 2**20  # ten thousand tests, each with all its sites
MAX_BASELINE_BYTES = 64 * 2**20  # ten thousand tests on a few devices
NAME = "memreq.json"


def read_results(path: Path) -> Results:
    """The results in a report's JSON file, or in that of a report's directory.

    Raises MemreqError, in one line that begins with the path, for whatever else it holds. Keys that
    this version does not know are passed over, and what an older one did not write is not known.
    """
    file = path / NAME if path.is_dir() else path
    return results_of(read_whole(file, MAX_REPORT_BYTES), str(file))


def read_baseline(path: Path) -> Baseline | None:
    """The baseline in a file, None where there is no file.

    Raises MemreqError, in one line that begins with the path, for whatever else it holds.
    """
    if not path.exists() and not path.is_symlink():  # a link to nowhere is a mistake
        return None
    return from_text(read_whole(path, MAX_BASELINE_BYTES), str(path))


def read_either(path: Path) -> Results | Baseline:
    """A report or a baseline, whichever the file holds; raises MemreqError for all else."""
    file = path / NAME if path.is_dir() else path
    content = read_whole(file, MAX_REPORT_BYTES)
    is_baseline = "entries" in parse(content, str(file))
    return from_text(content, str(file)) if is_baseline else results_of(content, str(file))


def results_of(content: bytes, where: str) -> Results:
    """The same from a file's content; `where` names it in errors."""
    raw = parse(content, where)
    check_format(raw, FORMAT, where)
    results = build(Results, _as_built(raw), f"{where}: results")
    counts = Counter(test.nodeid for test in results.tests)
    twice = [nodeid for nodeid, count in counts.items() if count > 1]
    if twice:
        raise MemreqError(f"{where}: has the test {shown(twice[0])} twice")
    return results


def _as_built(raw: dict[str, Any]) -> dict[str, Any]:
    """The object with all that differs in the file from the values it stands for."""
    tests = raw.get("tests")
    return {**raw, "tests": [*map(test_as_built, tests)]} if isinstance(tests, list) else raw


def test_as_built(raw: object) -> object:
    """A test with its holders as pairs."""
    if not isinstance(raw, dict) or not isinstance(raw.get("held_by"), list):
        return raw
    return {**raw, "held_by": [*map(_pair, raw["held_by"])]}


def _pair(held: object) -> object:
    return [held.get("who"), held.get("bytes")] if isinstance(held, dict) else held
