"""What a run tells while it goes on, one event after another, and the results that this makes.

The same events make the results of a run that came to its end, and, from its journal, of one that
did not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from pytest_memreq.packing.rooms import Room
from pytest_memreq.reports.together import together
from pytest_memreq.results import Environment, Results, RunStatus, TestResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A test began, checked or not."""

    nodeid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A test came to its end, however."""

    nodeid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A checked test has its figures."""

    result: TestResult
    environment: Environment


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What a test left on the device, which is known once its fixtures are torn down."""

    nodeid: str
    leaked_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Housed:
    """What room a test had on cards, which is known once it is over."""

    nodeid: str
    rooms: tuple[Room, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CutShort:
    """A subtest did not come through, so that its test did less work than it was to do."""

    nodeid: str
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The run came to its end; the last event there is."""

    status: RunStatus


Event = Started | Ended | Judged | Left | Housed | CutShort | Finished


@dataclass(slots=True)
class Gathering:
    """The events so far."""

    _tests: dict[str, TestResult] = field(default_factory=dict)
    _environment: Environment = field(default_factory=Environment)
    _running: dict[str, None] = field(default_factory=dict)
    _cut_short: dict[str, str] = field(default_factory=dict)
    _status: RunStatus = "incomplete"

    def take(self, event: Event) -> None:
        """Of a test that was run again, the last counts."""
        match event:
            case Started(nodeid=nodeid):
                self._running[nodeid] = None
            case Ended(nodeid=nodeid):
                self._running.pop(nodeid, None)
            case CutShort(nodeid=nodeid, outcome=outcome):
                self._cut_short[nodeid] = outcome
            case Left(nodeid=nodeid, leaked_bytes=leaked_bytes) if nodeid in self._tests:
                self._tests[nodeid] = replace(self._tests[nodeid], leaked_bytes=leaked_bytes)
            case Housed(nodeid=nodeid, rooms=rooms) if nodeid in self._tests:
                self._tests[nodeid] = replace(self._tests[nodeid], rooms=rooms)
            case Judged():
                self._judge(event)
            case Finished(status=status):
                self._status = status

    def _judge(self, event: Judged) -> None:
        result, environment = self._as_far_as_it_came(event.result), event.environment
        # Markers name cards: the environment of the run is not that of every test.
        self._tests[result.nodeid] = replace(result, gpu=environment.gpu)
        if environment.mode is not None:
            self._environment = environment

    def _as_far_as_it_came(self, result: TestResult) -> TestResult:
        """Figures that look good are those of less work where a subtest was cut short."""
        outcome = self._cut_short.get(result.nodeid)
        if outcome is None or result.verdict not in ("within", "improved"):
            return result
        return replace(result, verdict="error", reason=f"a subtest {outcome}: less was run")

    def results(self) -> Results:
        """The tests in the order of their node ids, with those that still run."""
        tests = tuple(self._tests[nodeid] for nodeid in sorted(self._tests))
        return Results(
            tests=tests,
            together=together(tests),
            environment=self._environment,
            status=self._status,
            running=tuple(sorted(self._running)),
        )


def gathered(events: Iterable[Event]) -> Results:
    """The results of a run that told these events, incomplete without the last."""
    gathering = Gathering()
    for event in events:
        gathering.take(event)
    return gathering.results()
