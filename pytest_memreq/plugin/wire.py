"""A result, or a refusal, on its way from the process that ran the test to the one that reports.

The way is an attribute of the test's report: it passes pytest-xdist, and leaves pytest's own JUnit
file as it is. Plain dicts, lists, text and numbers only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace

import pytest

from pytest_memreq.packing.rooms import Room
from pytest_memreq.reports.gathering import CutShort, Event, Housed, Judged, Left
from pytest_memreq.reports.text import visible
from pytest_memreq.results import Environment, TestResult

ATTRIBUTE = "memreq"
LEAKED = "memreq_leaked_bytes"
ROOMS = "memreq_rooms"
REFUSAL = "memreq_refusal"


def attach(report: pytest.TestReport, result: TestResult, environment: Environment) -> None:
    """Put a result on the report of its test."""
    content = {"result": result.to_dict(), "environment": asdict(environment)}
    setattr(report, ATTRIBUTE, content)


def detach(report: pytest.TestReport) -> tuple[TestResult, Environment] | None:
    """The result on a report. A subtest's report repeats its test's and brings none."""
    content = getattr(report, ATTRIBUTE, None)
    if content is None or type(report) is not pytest.TestReport:
        return None
    return TestResult.from_dict(content["result"]), Environment(**content["environment"])


def attach_leak(report: pytest.TestReport, leaked_bytes: int) -> None:
    """Put on the report of a teardown what the test left, which is known only then."""
    setattr(report, LEAKED, leaked_bytes)


def leaked_bytes_of(report: pytest.TestReport) -> int | None:
    """What the test of a teardown's report left."""
    leaked_bytes: int | None = getattr(report, LEAKED, None)
    return leaked_bytes


def attach_rooms(report: pytest.TestReport, rooms: Iterable[Room]) -> None:
    """Put on the report of a teardown what room its test had, which is over only then."""
    setattr(report, ROOMS, [asdict(room) for room in rooms])


def events_of(report: pytest.TestReport) -> Iterator[Event]:
    """What a report tells, in the order in which it counts."""
    leaked_bytes = leaked_bytes_of(report)
    if leaked_bytes is not None:
        yield Left(nodeid=report.nodeid, leaked_bytes=leaked_bytes)
    rooms = getattr(report, ROOMS, None)
    if rooms is not None:
        yield Housed(nodeid=report.nodeid, rooms=tuple(Room(**room) for room in rooms))
    if type(report) is not pytest.TestReport and report.outcome != "passed":
        yield CutShort(nodeid=report.nodeid, outcome=report.outcome)
    brought = detach(report)
    if brought is not None:
        yield Judged(result=brought[0], environment=brought[1])


def annotate(report: pytest.TestReport, note: str) -> None:
    """Add a note to the result on a report, if there is one."""
    brought = detach(report)
    if brought is not None:
        result, environment = brought
        attach(report, replace(result, notes=(*result.notes, note)), environment)


def refuse_run(config: pytest.Config, items: list[pytest.Item], reason: str) -> None:
    """End the run before any test, as a mistake in its usage.

    A worker of pytest-xdist that raises is a crash to its controller; it runs nothing instead, and
    says why when it is done.
    """
    output, shown = getattr(config, "workeroutput", None), visible(reason)
    if output is None:
        raise pytest.UsageError(shown)
    output[REFUSAL] = shown
    items.clear()


def refusal_of(node: object) -> str | None:
    """Why a worker of pytest-xdist ran nothing, None for one that did not refuse."""
    output: dict[str, str] = getattr(node, "workeroutput", {})
    return output.get(REFUSAL)
