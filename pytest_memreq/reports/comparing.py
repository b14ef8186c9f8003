"""Two runs, test by test: what each needed, what changed, and whether that is too much.

What is compared comes from a report or a baseline; both become a `Side` first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pytest_memreq.gate.explain import Account, Explanation, explain
from pytest_memreq.requirement import METRICS, Metric, Peak
from pytest_memreq.results import Environment, Results, TestResult
from pytest_memreq.units import format_size

# `new` and `gone` are tests that only one side has.
Status = Literal["regressed", "improved", "within", "unchecked", "new", "gone"]
STATUSES: tuple[Status, ...] = ("regressed", "unchecked", "improved", "new", "gone", "within")
NOTED = ("mode", "gpu", "torch", "cuda", "allocator", "world_size")
UNFINISHED = "the run did not finish"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A test on one side; `problem` says why its figures are not to be compared."""

    peak: Peak
    mode: str | None = None
    account: Account | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One run: its name, its tests by node id, and whether it is all of the run."""

    name: str
    tests: Mapping[str, Entry]
    environment: Environment | None = None
    is_complete: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TestDiff:
    """A test on both sides; `explanation` is there where both know what was live."""

    __test__ = False  # not a class of tests, whatever pytest makes of its name

    nodeid: str
    status: Status
    base: Peak | None
    head: Peak | None
    reason: str = ""
    explanation: Explanation | None = None

    def change_bytes(self, metric: Metric) -> int | None:
        """Bytes more than in the base; None where either is not known."""
        before = None if self.base is None else self.base.of(metric)
        after = None if self.head is None else self.head.of(metric)
        return None if before is None or after is None else after - before


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """All tests of two runs, the worst first; `problems` are of whole runs."""

    base: str
    head: str
    metric: Metric
    tolerance: int | float
    tests: tuple[TestDiff, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def summary(self) -> dict[Status, int]:
        """How many tests have each status, every one named."""
        found = [test.status for test in self.tests]
        return {status: found.count(status) for status in STATUSES}

    @property
    def status(self) -> Literal["regressed", "unchecked", "within"]:
        """Of all: what is known to have regressed has, whatever else is not known."""
        counts = self.summary()
        if counts["regressed"]:
            return "regressed"
        return "unchecked" if self.problems or counts["unchecked"] else "within"


def side_of(results: Results, name: str) -> Side:
    """A report as a side."""
    return Side(
        name=name,
        tests={test.nodeid: _entry(test) for test in results.tests},
        environment=results.environment,
        is_complete=results.status == "complete",
    )


def compare(base: Side, head: Side, *, metric: Metric, tolerance: int | float) -> Diff:
    """Hold `head` against `base`; a tolerance is in bytes, or a share of the base's figure."""
    nodeids = dict.fromkeys((*base.tests, *head.tests))
    tests = [
        _compare(nodeid, base.tests.get(nodeid), head.tests.get(nodeid), metric, tolerance)
        for nodeid in nodeids
    ]
    tests.sort(key=lambda test: _rank(test, metric))
    return Diff(
        base=base.name,
        head=head.name,
        metric=metric,
        tolerance=tolerance,
        tests=tuple(tests),
        problems=tuple(_problems(base, head)),
        notes=tuple(_notes(base.environment, head.environment)),
    )


def _entry(test: TestResult) -> Entry:
    is_known = test.is_checked or test.verdict == "regressed"
    return Entry(
        peak=test.peak,
        mode=test.mode,
        account=_account(test),
        problem="" if is_known else f"{test.verdict}: {test.reason}",
    )


def _account(test: TestResult) -> Account | None:
    total = test.peak.allocated_bytes
    if total is None:
        return None
    return Account(total_bytes=total, breakdown=test.breakdown, sites=test.sites)


def _compare(
    nodeid: str, base: Entry | None, head: Entry | None, metric: Metric, tolerance: int | float
) -> TestDiff:
    before = None if base is None else base.peak
    after = None if head is None else head.peak
    if base is None or head is None:
        status: Status = "new" if base is None else "gone"
        return TestDiff(nodeid=nodeid, status=status, base=before, head=after)
    status, reason = _judged(base, head, metric, tolerance)
    return TestDiff(
        nodeid=nodeid,
        status=status,
        base=before,
        head=after,
        reason=reason,
        explanation=_explained(base, head),
    )


def _judged(base: Entry, head: Entry, metric: Metric, tolerance: int | float) -> tuple[Status, str]:
    problems = [f"{who}, {e.problem}" for who, e in (("base", base), ("head", head)) if e.problem]
    if problems:
        return "unchecked", "; ".join(problems)
    if base.mode and head.mode and base.mode != head.mode:
        return "unchecked", f"{base.mode} in the base, {head.mode} in the head"
    before, after = base.peak.of(metric), head.peak.of(metric)
    if before is None or after is None:
        where = "base" if before is None else "head"
        return "unchecked", f"the {metric} peak is not known in the {where}"
    allowed = int(tolerance * before) if isinstance(tolerance, float) else tolerance
    if after - before > allowed:
        return "regressed", f"{format_size(allowed)} more are tolerated" if allowed else ""
    return ("improved", "") if before - after > allowed else ("within", "")


def _explained(base: Entry, head: Entry) -> Explanation | None:
    if base.account is None or head.account is None:
        return None
    return explain(base.account, head.account)


def _rank(test: TestDiff, metric: Metric) -> tuple[int, int, str]:
    return STATUSES.index(test.status), -abs(test.change_bytes(metric) or 0), test.nodeid


def _problems(base: Side, head: Side) -> list[str]:
    problems = [f"{s.name}: {UNFINISHED}" for s in (base, head) if not s.is_complete]
    if not base.tests.keys() & head.tests.keys():
        problems.append("no test is in both")
    return problems


def _notes(base: Environment | None, head: Environment | None) -> list[str]:
    """What differs in where the figures come from, as far as both sides say."""
    if base is None or head is None:
        return []
    pairs = [(name, getattr(base, name), getattr(head, name)) for name in NOTED]
    return [
        f"{name}: {before} in the base, {after} in the head"
        for name, before, after in pairs
        if None not in (before, after) and before != after
    ]


def metrics_changed(test: TestDiff) -> tuple[tuple[Metric, int], ...]:
    """(metric, bytes more) of those that are known on both sides."""
    pairs = [(metric, test.change_bytes(metric)) for metric in METRICS]
    return tuple((metric, size) for metric, size in pairs if size is not None)
