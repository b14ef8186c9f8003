"""What the `memreq` fixture gives a test: estimate, simulate, measure and check within it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import pytest

from pytest_memreq.errors import MemoryBudgetExceeded, MemreqError
from pytest_memreq.estimate import estimate
from pytest_memreq.gate.budget import Budget, parse_budget
from pytest_memreq.gate.verdict import failure_message, judge
from pytest_memreq.plugin.calibrating import CALIBRATION
from pytest_memreq.plugin.comparing import (
    Comparison,
    Figure,
    allocated_bytes,
    compare,
    peak_of,
    sites_of,
)
from pytest_memreq.plugin.course import COURSE
from pytest_memreq.plugin.meters import Meter, Span
from pytest_memreq.reports.text import visible, visible_lines
from pytest_memreq.requirement import Requirement
from pytest_memreq.simulate import Simulation, simulate
from pytest_memreq.simulate.calibration import Calibration
from pytest_memreq.simulate.search import BatchSolution, max_batch

if TYPE_CHECKING:
    import torch


class Memreq:
    """What a test can ask about memory; the device is there from the test's setup on."""

    def __init__(
        self,
        nodeid: str,
        meter: Meter | None,
        problem: str,
        calibration: Calibration | None = None,
    ) -> None:
        self._calibration = calibration
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
        """As `pytest_memreq.simulate`, by the calibration of the run."""
        return simulate(step, *args, **{"calibration": self._calibration, **setup})

    def max_batch(
        self, step_factory: Callable[[int], Callable[[], Any]], budget: str | int, **setup: Any
    ) -> BatchSolution:
        """As `pytest_memreq.max_batch`: the largest batch whose step, simulated, fits."""
        return max_batch(step_factory, budget, **setup)

    def measure(self, label: str) -> AbstractContextManager[Span]:
        """A stretch of the test; its `peak` is known once it is over."""
        return self._metered().span(label)

    def check(self, what: Figure, budget: str | int | Budget, *, of: Figure | None = None) -> None:
        """Raise MemoryBudgetExceeded if `what` needs more than the budget.

        A requirement or a number of bytes is held against the limit on allocated. A share, such as
        "80%", is one of the card, or of the peak of allocated that `of` has.
        """
        __tracebackhide__ = True
        limit = (
            budget
            if isinstance(budget, Budget)
            else parse_budget({"allocated": budget}, where="memreq.check")
        )
        card_bytes = self._meter.card_bytes if self._meter is not None else None
        whole_bytes = card_bytes if of is None else allocated_bytes(of)
        verdict = judge(peak_of(what), limit.in_bytes(whole_bytes))
        if verdict.word == "over":
            beside = "" if of is None else f"; it is {compare(what, of)}"
            reason = f"{verdict.reason}{beside}"
            message = failure_message(self._nodeid, reason, sites_of(what))
            raise MemoryBudgetExceeded(visible_lines(message))
        if verdict.word == "unchecked":
            pytest.fail(visible(f"memreq.check: unchecked: {verdict.reason}"), pytrace=False)

    def compare(self, a: Figure, b: Figure) -> Comparison:
        """Two figures side by side, by their peak of allocated."""
        return compare(a, b)

    def _metered(self) -> Meter:
        if self._meter is None:
            raise MemreqError(self._problem or "memreq is off (--memreq=off): there is no device")
        return self._meter


def memreq_of(request: pytest.FixtureRequest) -> Memreq:
    """For the test of the request."""
    course = request.node.stash.get(COURSE, None)
    calibration = request.config.stash.get(CALIBRATION, None)
    if course is None:
        return Memreq(request.node.nodeid, None, "", calibration)
    return Memreq(request.node.nodeid, course.meter, course.problem, calibration)
