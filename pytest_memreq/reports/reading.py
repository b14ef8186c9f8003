"""Read what runs wrote, reports and baselines, by whomever they may have been changed since."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_memreq.errors import MemreqError
from pytest_memreq.gate.baseline import Baseline
from pytest_memreq.gate.baseline_text import from_text
from pytest_memreq.reports.files import is_absent, is_directory, read_whole
from pytest_memreq.results import FORMAT, Results
from pytest_memreq.strict_json import build, check_format, parse, shown

MAX_REPORT_BYTES = 256 * 2**20  # ten thousand tests, each with all its sites
MAX_BASELINE_BYTES = 64 * 2**20  # ten thousand tests on a few devices
NAME = "memreq.json"
NEEDED = ("status", "tests")  # a report without them must not look like one of a run without tests


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """One who holds memory, as `held_by` has it in the file."""

    who: str
    bytes: int


def read_results(path: Path) -> Results:
    """The results in a report's JSON file, or in that of a report's directory.

    Raises MemreqError, in one line that begins with the path, for whatever else it holds. Keys that
    this version does not know are passed over, and what an older one did not write is not known.
    """
    file = path / NAME if is_directory(path) else path
    return results_of(read_whole(file, MAX_REPORT_BYTES), str(file))


def read_baseline(path: Path) -> Baseline | None:
    """The baseline in a file, None where there is no file.

    Raises MemreqError, in one line that begins with the path, for whatever else it holds.
    """
    if is_absent(path):  # a link to nowhere is a mistake
        return None
    return from_text(read_whole(path, MAX_BASELINE_BYTES), str(path))


def read_either(path: Path) -> Results | Baseline:
    """A report or a baseline, whichever the file holds; raises MemreqError for all else."""
    file = path / NAME if is_directory(path) else path
    content = read_whole(file, MAX_REPORT_BYTES)
    is_baseline = "entries" in parse(content, str(file))
    return from_text(content, str(file)) if is_baseline else results_of(content, str(file))


def results_of(content: bytes, where: str) -> Results:
    """The same from a file's content; `where` names it in errors."""
    raw = parse(content, where)
    check_format(raw, FORMAT, where)
    for key in NEEDED:
        if key not in raw:
            raise MemreqError(f"{where}: results: has no {key!r}")
    build(Mapping[str, int], raw.get("summary", {}), f"{where}: results.summary")
    results = build(Results, _as_built(raw, where), f"{where}: results")
    counts = Counter(test.nodeid for test in results.tests)
    twice = [nodeid for nodeid, count in counts.items() if count > 1]
    if twice:
        raise MemreqError(f"{where}: has the test {shown(twice[0])} twice")
    return results


def _as_built(raw: dict[str, Any], where: str) -> dict[str, Any]:
    """The object with all that differs in the file from the values it stands for."""
    tests = raw.get("tests")
    if not isinstance(tests, list):
        return raw
    places = [f"{where}: results.tests[{n}]" for n in range(len(tests))]
    return {**raw, "tests": [*map(test_as_built, tests, places)]}


def test_as_built(raw: object, where: str) -> object:
    """A test with its holders as pairs."""
    if not isinstance(raw, dict) or not isinstance(raw.get("held_by"), list):
        return raw
    holders = [build(Holder, h, f"{where}.held_by[{n}]") for n, h in enumerate(raw["held_by"])]
    return {**raw, "held_by": [[holder.who, holder.bytes] for holder in holders]}
