"""The `memreq` fixture: estimate, simulate, measure and check within a test."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from pytest_memreq.errors import MemoryBudgetExceeded, MemreqError
from pytest_memreq.estimate import estimate
from pytest_memreq.gate.budget import Budget, parse_budget
from pytest_memreq.gate.verdict import failure_message, judge
from pytest_memreq.plugin.course import COURSE
from pytest_memreq.plugin.meters import Meter, Span
from pytest_memreq.requirement import Finding, Peak, Requirement, Site
from pytest_memreq.simulate import Simulation, simulate
from pytest_memreq.simulate.search import BatchSolution, max_batch

if TYPE_CHECKING:
    import torch

Figure = Requirement | Finding | Span | int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two figures side by side, in bytes of `allocated`; `ratio` is a over b."""

    a_bytes: int
    b_bytes: int

    @property
    def ratio(self) -> float:
        """a over b; infinite where only b is 0."""
        if self.b_bytes == 0:
            return float("inf") if self.a_bytes else 1.0
        return self.a_bytes / self.b_bytes

    @property
    def difference_bytes(self) -> int:
        """a less b."""
        return self.a_bytes - self.b_bytes


class Memreq:
    """What a test can ask about memory; the device is there from the test's setup on."""

    def __init__(self, nodeid: str, meter: Meter | None, problem: str) -> None:
        self._nodeid = nodeid
        self._meter = meter
        self._problem = problem

    @property
    def device(self) -> torch.device:
        """The device to put the work on: pretended where there is no card."""
        return self._metered().device

    def estimate(self, model: Any, *inputs: Any, **setup: Any) -> Requirement:
        """As `pytest_memreq.estimate`."""
        return estimate(model, *inputs, **setup)

    def simulate(self, step: Callable[..., Any], *args: Any, **setup: Any) -> Simulation:
        """As `pytest_memreq.simulate`."""
        return simulate(step, *args, **setup)

    def max_batch(
        self, step_factory: Callable[[int], Callable[[], Any]], budget: str | int, **setup: Any
    ) -> BatchSolution:
        """As `pytest_memreq.max_batch`: the largest batch whose step, simulated, fits."""
        return max_batch(step_factory, budget, **setup)

    def measure(self, label: str) -> AbstractContextManager[Span]:
        """A stretch of the test; its `peak` is known once it is over."""
        return self._metered().span(label)

    def check(self, what: Figure, budget: str | int | Budget) -> None:
        """Raise MemoryBudgetExceeded if `what` needs more than the budget.

        A requirement or a number of bytes is held against the limit on allocated.
        """
        limit = (
            budget
            if isinstance(budget, Budget)
            else parse_budget({"allocated": budget}, where="memreq.check")
        )
        card_bytes = self._meter.card_bytes if self._meter is not None else None
        verdict = judge(_peak_of(what), limit.in_bytes(card_bytes))
        if verdict.word == "over":
            raise MemoryBudgetExceeded(
                failure_message(self._nodeid, verdict.reason, _sites_of(what))
            )
        if verdict.word == "unchecked":
            pytest.fail(f"memreq.check: unchecked: {verdict.reason}", pytrace=False)

    def compare(self, a: Figure, b: Figure) -> Comparison:
        """Two figures side by side, by their peak of allocated."""
        return Comparison(a_bytes=_allocated_bytes(a), b_bytes=_allocated_bytes(b))

    def _metered(self) -> Meter:
        if self._meter is None:
            raise MemreqError(self._problem or "memreq is off (--memreq=off): there is no device")
        return self._meter


@pytest.fixture
def memreq(request: pytest.FixtureRequest) -> Memreq:
    """Estimate, simulate, measure and check GPU memory within a test."""
    course = request.node.stash.get(COURSE, None)
    if course is None:
        return Memreq(request.node.nodeid, None, "")
    return Memreq(request.node.nodeid, course.meter, course.problem)


def _peak_of(what: Figure) -> Peak:
    if isinstance(what, Requirement):
        return Peak(allocated_bytes=what.total_bytes)
    if isinstance(what, Finding):
        return what.peak
    if isinstance(what, Span):
        if what.peak is None:
            raise MemreqError(f"the stretch {what.label!r} is not over yet; ask after its `with`")
        return what.peak
    if isinstance(what, int) and not isinstance(what, bool):
        return Peak(allocated_bytes=what)
    raise MemreqError(
        f"{what!r} has no peak; give what estimate, simulate or measure returned, or bytes"
    )


def _sites_of(what: Figure) -> tuple[Site, ...]:
    return what.sites if isinstance(what, Finding) else ()


def _allocated_bytes(what: Figure) -> int:
    size = _peak_of(what).allocated_bytes
    if size is None:
        raise MemreqError(f"{what!r} has no known peak of allocated")
    return size
