"""From a run's results to entries of a baseline."""

from __future__ import annotations

from pytest_memreq.gate.baseline import Entry
from pytest_memreq.gate.largest import largest_of
from pytest_memreq.requirement import METRICS, Peak
from pytest_memreq.results import Environment, Results, TestResult

WHOLE = ("within", "regressed", "improved")  # what others have goes only as far as the test came


def entry_of(test: TestResult, environment: Environment) -> Entry | None:
    """The entry of a test, None for one whose figures are not all that it needs."""
    if test.mode is None or not _is_known(test.peak) or not is_whole(test):
        return None
    return Entry(
        nodeid=test.nodeid,
        device=environment.device_class(mode=test.mode, gpu=test.gpu, world_size=test.world_size),
        peak=test.peak,
        breakdown=test.breakdown,
        largest=largest_of(test.sites, test.breakdown),
    )


def simulated_entry_of(test: TestResult, environment: Environment) -> Entry | None:
    """The entry of what was simulated of a test that was measured, None where that is not all."""
    said = test.simulated
    if said is None or said.reason or not _is_known(said.peak) or not is_whole(test):
        return None
    return Entry(
        nodeid=test.nodeid,
        device=environment.device_class(mode="simulated", gpu=said.gpu, world_size=test.world_size),
        peak=said.peak,
        breakdown=said.breakdown,
        largest=largest_of(said.sites, said.breakdown),
    )


def _is_known(peak: Peak) -> bool:
    return any(peak.of(metric) is not None for metric in METRICS)


def is_whole(test: TestResult) -> bool:
    """True where a test came through and nothing but its baseline may be missing."""
    lacks_baseline = test.verdict == "unchecked" and test.cause == "not_in_baseline"
    return test.verdict in WHOLE or lacks_baseline


def entries_of(results: Results) -> tuple[tuple[Entry, ...], tuple[TestResult, ...]]:
    """The entries of a run, and its tests that have none."""
    pairs = [(test, entry_of(test, results.environment)) for test in results.tests]
    beside = (simulated_entry_of(test, results.environment) for test in results.tests)
    entries = tuple(e for e in (*(entry for _, entry in pairs), *beside) if e is not None)
    return entries, tuple(test for test, entry in pairs if entry is None)
