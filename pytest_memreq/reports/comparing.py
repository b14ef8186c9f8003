"""Two sides, test by test: what each needed, what changed, and whether that is too much."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Literal

from pytest_memreq.gate.explain import Explanation, explain
from pytest_memreq.gate.tolerance import OF_MEASURED, OF_SIMULATED, Tolerance
from pytest_memreq.reports.sides import Figures, Side
from pytest_memreq.requirement import METRICS, Metric, Peak
from pytest_memreq.results import Environment

# `new` and `gone` are tests that only one side has.
Status = Literal["regressed", "improved", "within", "unchecked", "new", "gone"]
STATUSES: tuple[Status, ...] = ("regressed", "unchecked", "improved", "new", "gone", "within")
NOTED = ("mode", "gpu", "torch", "cuda", "allocator", "world_size")
UNFINISHED = "the run did not finish"
SHOWN_DEVICES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class TestDiff:
    """A test on both sides; `explanation` is there where both know what was live.

    `device` says of what the figures are, where a side has the test for several.
    """

    __test__ = False  # not a class of tests, whatever pytest makes of its name

    nodeid: str
    status: Status
    base: Peak | None
    head: Peak | None
    device: str = ""
    reason: str = ""
    explanation: Explanation | None = None

    def change_bytes(self, metric: Metric) -> int | None:
        """Bytes more than in the base; None where either is not known."""
        before = None if self.base is None else self.base.of(metric)
        after = None if self.head is None else self.head.of(metric)
        return None if before is None or after is None else after - before


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """All tests of two sides, the worst first; `problems` are of whole sides.

    Without a `tolerance` each test has that of baselines.
    """

    base: str
    head: str
    metric: Metric
    tolerance: Tolerance | None
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


def compare(base: Side, head: Side, *, metric: Metric, tolerance: Tolerance | None = None) -> Diff:
    """Hold `head` against `base`."""
    tests = [
        _compare(pair, metric, tolerance)
        for nodeid in dict.fromkeys((*base.tests, *head.tests))
        for pair in _paired(nodeid, base, head)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """Figures of a test that belong together; `problem` says why one side has none."""

    nodeid: str
    base: Figures | None = None
    head: Figures | None = None
    device: str = ""
    problem: str = ""


def _paired(nodeid: str, base: Side, head: Side) -> list[_Pair]:
    """Two reports are compared whatever they ran on; a baseline's figures hold for their device."""
    before, after = base.tests.get(nodeid, ()), head.tests.get(nodeid, ())
    if not (base.is_baseline or head.is_baseline):
        both = zip_longest(before, after)
        return [_Pair(nodeid=nodeid, base=was, head=now) for was, now in both]
    pairs = _by_device(nodeid, before, after)
    if base.is_baseline and head.is_baseline:
        return pairs
    if not (before and after):
        return [replace(pair, device="") for pair in pairs[:1]]
    # A run is on one device: what a baseline has for others is not gone.
    of_run = [pair for pair in pairs if (pair.head if base.is_baseline else pair.base) is not None]
    problem = _no_such(base if base.is_baseline else head, nodeid)
    return [
        replace(p, device="", problem=problem if p.base is None or p.head is None else "")
        for p in of_run
    ]


def _by_device(nodeid: str, before: Sequence[Figures], after: Sequence[Figures]) -> list[_Pair]:
    """Figures of the same device; where there is none, of one with another version of torch."""
    pairs: list[_Pair] = []
    left = list(before)
    for key_of in (_device, _device_but_torch):
        waiting: dict[Hashable, list[Figures]] = {}
        taken = {id(pair.head) for pair in pairs}
        for now in after:
            if id(now) not in taken:
                waiting.setdefault(key_of(now), []).append(now)
        found = [(was, row.pop(0)) for was in left if (row := waiting.get(key_of(was)))]
        matched = {id(was) for was, _ in found}
        left = [was for was in left if id(was) not in matched]
        pairs += [_Pair(nodeid=nodeid, base=was, head=now) for was, now in found]
    taken = {id(pair.head) for pair in pairs}
    pairs += [_Pair(nodeid=nodeid, base=was) for was in left]
    pairs += [_Pair(nodeid=nodeid, head=now) for now in after if id(now) not in taken]
    is_one = len(before) <= 1 and len(after) <= 1
    return pairs if is_one else [replace(p, device=_name_of_device(p)) for p in pairs]


def _device(figures: Figures) -> Hashable:
    return figures.device


def _device_but_torch(figures: Figures) -> Hashable:
    return figures.device and replace(figures.device, torch=None)


def _name_of_device(pair: _Pair) -> str:
    figures = pair.head or pair.base
    return "" if figures is None else str(figures.device)


def _no_such(side: Side, nodeid: str) -> str:
    devices = [str(each.device) for each in side.tests[nodeid]]
    more = len(devices) - SHOWN_DEVICES
    shown = "; ".join(devices[:SHOWN_DEVICES])
    return f"the baseline has it for other devices: {shown}{f' and {more} more' * (more > 0)}"


def _compare(pair: _Pair, metric: Metric, tolerance: Tolerance | None) -> TestDiff:
    status, reason = _judged(pair, metric, tolerance)
    return TestDiff(
        nodeid=pair.nodeid,
        status=status,
        device=pair.device,
        base=None if pair.base is None else pair.base.peak,
        head=None if pair.head is None else pair.head.peak,
        reason=reason,
        explanation=_explained(pair.base, pair.head),
    )


def _judged(pair: _Pair, metric: Metric, tolerance: Tolerance | None) -> tuple[Status, str]:
    base, head = pair.base, pair.head
    if pair.problem:
        return "unchecked", pair.problem
    if base is None or head is None:
        return ("new" if base is None else "gone"), ""
    why = _why_not(base, head, metric)
    if why:
        return "unchecked", why
    before, after = base.peak.of(metric) or 0, head.peak.of(metric) or 0
    allowed = tolerance or _usual(base, head)
    if not allowed.is_exceeded(before, after):
        return "within", ""
    is_zero = not (allowed.percent or allowed.bytes)
    if after > before:
        return "regressed", "" if is_zero else f"{allowed} more are tolerated"
    return "improved", ""


def _why_not(base: Figures, head: Figures, metric: Metric) -> str:
    problems = [f"{who}, {e.problem}" for who, e in (("base", base), ("head", head)) if e.problem]
    if problems:
        return "; ".join(problems)
    if base.mode and head.mode and base.mode != head.mode:
        return f"{base.mode} in the base, {head.mode} in the head"
    unknown = [who for who, e in (("base", base), ("head", head)) if e.peak.of(metric) is None]
    return f"the {metric} peak is not known in the {' and the '.join(unknown)}" if unknown else ""


def _usual(base: Figures, head: Figures) -> Tolerance:
    """As baselines have it: the same simulation gives the same byte."""
    is_same = base.device == head.device and head.mode == "simulated"
    return OF_SIMULATED if is_same else OF_MEASURED


def _explained(base: Figures | None, head: Figures | None) -> Explanation | None:
    if base is None or head is None or base.account is None or head.account is None:
        return None
    return explain(base.account, head.account)


def _rank(test: TestDiff, metric: Metric) -> tuple[int, int, str, str]:
    change = -abs(test.change_bytes(metric) or 0)
    return STATUSES.index(test.status), change, test.nodeid, test.device


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
