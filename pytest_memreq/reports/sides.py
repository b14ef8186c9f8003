"""What two runs are compared by: a report's figures, or a baseline's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

from pytest_memreq.gate.account import Account, account_of
from pytest_memreq.gate.baseline import Baseline, DeviceClass, Entry
from pytest_memreq.reports.recording import is_whole
from pytest_memreq.requirement import Peak
from pytest_memreq.results import Environment, Results, TestResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a test needed on a device; `problem` says why that is not to be compared."""

    peak: Peak
    mode: str | None = None
    device: DeviceClass | None = None
    account: Account | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A report or a baseline by its name, its tests by node id; a report has each test once.

    It is complete where it has all of its run.
    """

    name: str
    tests: Mapping[str, tuple[Figures, ...]]
    environment: Environment | None = None
    is_complete: bool = True
    is_baseline: bool = False


def side_of_report(results: Results, name: str) -> Side:
    """A report as a side."""
    return Side(
        name=name,
        tests={test.nodeid: (_of_test(test, results.environment),) for test in results.tests},
        environment=results.environment,
        is_complete=results.status == "complete",
    )


def side_of_baseline(baseline: Baseline, name: str) -> Side:
    """A baseline as a side."""
    groups = groupby(baseline.entries, key=lambda entry: entry.nodeid)  # they are in order
    tests = {nodeid: tuple(map(_of_entry, entries)) for nodeid, entries in groups}
    return Side(name=name, tests=tests, is_baseline=True)


def _of_test(test: TestResult, environment: Environment) -> Figures:
    # What is over its budget is all that it needs, though a baseline does not take it.
    is_known = is_whole(test) or test.verdict == "over"
    return Figures(
        peak=test.peak,
        mode=test.mode,
        device=_device(test, environment),
        account=_account(test),
        problem="" if is_known else f"{test.verdict}: {test.reason}",
    )


def _device(test: TestResult, environment: Environment) -> DeviceClass | None:
    if test.mode is None:
        return None
    return environment.device_class(mode=test.mode, gpu=test.gpu)


def _account(test: TestResult) -> Account | None:
    total_bytes = test.peak.allocated_bytes
    if total_bytes is None:
        return None
    return Account(total_bytes=total_bytes, breakdown=test.breakdown, sites=test.sites)


def _of_entry(entry: Entry) -> Figures:
    return Figures(
        peak=entry.peak,
        mode=entry.device.mode,
        device=entry.device,
        account=account_of(entry),
    )
