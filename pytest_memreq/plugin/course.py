"""One checked test under way: from what it needed to a verdict, and what the verdict does to it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import pytest

from pytest_memreq.errors import (
    DeviceLostError,
    MemreqError,
)
from pytest_memreq.gate.baseline import both
from pytest_memreq.gate.budget import Budget
from pytest_memreq.gate.comparison import Comparison, what_grew
from pytest_memreq.gate.divergence import BOUND, beyond
from pytest_memreq.gate.hints import Hint, hints
from pytest_memreq.gate.leak import judge_leak
from pytest_memreq.gate.tolerance import Tolerance
from pytest_memreq.gate.verdict import (
    NOTHING_ALLOCATED,
    Verdict,
    judge,
)
from pytest_memreq.holdings import Held, nothing_held, total_bytes
from pytest_memreq.measure.backends import Explanation
from pytest_memreq.plugin.baselines import Baselines
from pytest_memreq.plugin.checks import Check
from pytest_memreq.plugin.judging import (
    outcome_of,
    pretended_note,
    verdict_of_exception,
    verdict_of_setup,
)
from pytest_memreq.plugin.leaks import Leak, find_leak
from pytest_memreq.plugin.meters import Meter
from pytest_memreq.requirement import METRICS, Finding, Peak
from pytest_memreq.results import Environment, Simulated, TestResult
from pytest_memreq.timeline import REPORTED_POINTS, thin_out
from pytest_memreq.units import format_size

NO_CAP = 'this device cannot refuse allocations, which enforce="cap" asks for'
BY_SIMULATION = "by what was simulated:"
REPORTED_SITES = 100  # a large model has thousands; the breakdown has them all


@dataclass(slots=True, kw_only=True)
class Course:
    """A test's check and meter; `finding` and `verdict` are there once its call is over.

    A rehearsal is the simulation of a test before it is measured, which then has what it said as
    `simulated`.
    """

    nodeid: str
    check: Check
    meter: Meter | None
    problem: str = ""
    is_rehearsal: bool = False
    simulated: Simulated | None = None
    finding: Finding | None = None
    verdict: Verdict | None = None
    leak: Leak | None = None
    leaked_bytes: int | None = None
    held: Callable[[], Held] = nothing_held
    lost: str = ""
    cap_bytes: int | None = None
    snapshot: str | None = None
    baselines: Baselines | None = None
    comparison: Comparison | None = None
    bound: Tolerance = BOUND

    def refuse_small_card(self) -> None:
        """Skip a test that asks to be, on a card with less than its limits."""
        budget = self._budget_or_none()
        if budget is None or not budget.skip_too_small:
            return
        if budget.too_large_for(self._metered.card_bytes):
            card = self.environment()
            size = format_size(card.gpu_bytes or 0)
            pytest.skip(f"memreq: {card.gpu} has {size}, less than the test's limits")

    def begin(self, held: Callable[[], Held]) -> None:
        """The call begins; `held` says what is alive now."""
        self.held = held
        self._metered.start(held)

    def left_bytes(self) -> int:
        """What is still there of what others left when the call began."""
        alive = frozenset(self._metered.live() or ())
        return total_bytes(block for block in self.held().others_blocks if block in alive)

    @property
    def left(self) -> frozenset[Hashable]:
        """The blocks of that, by their keys."""
        return frozenset(block.key for block in self.held().others_blocks)

    @contextmanager
    def capped(self) -> Iterator[None]:
        """The allocator is kept to the budget within it, where the test says so."""
        budget = self._budget_or_none()
        limit_bytes = None if budget is None else budget.cap_bytes()
        if self.check.budget.enforce != "cap" or limit_bytes is None:
            yield
            return
        self.cap_bytes = limit_bytes
        with self._metered.capped(limit_bytes) as can_be_kept:
            self.problem = "" if can_be_kept else NO_CAP
            yield

    def repeat(self, item: pytest.Item) -> None:
        """Run the test as often as its limit on leaks asks for."""
        if self.check.leak is not None:
            self.leak = find_leak(item, self._metered, self.check.leak, self.left_bytes)

    def conclude(self, raised: BaseException | None) -> None:
        """Take the finding, and reach the verdict; `raised` is what the test's call raised.

        Raises DeviceLostError where there is nothing to take any more.
        """
        try:
            self.finding = self._metered.finding()
        except DeviceLostError as error:
            self.lose(error)
            raise
        if self.check.is_judged:
            self.verdict = self._verdict(self.finding, raised)

    def lose(self, error: DeviceLostError) -> None:
        """The device is gone, and with it the figures."""
        self.lost = str(error)
        self.verdict = Verdict(word="error", reason=self.lost)

    def conclude_failed(self, raised: BaseException) -> None:
        """The same, after which what the test raised goes on, whatever else there is to say."""
        with suppress(DeviceLostError):
            self.conclude(raised)

    def note(self, text: str) -> None:
        """Something that a reader of the figures has to know."""
        if self.finding is not None:
            self.finding = replace(self.finding, notes=(*self.finding.notes, text))

    @property
    def is_to_explain(self) -> bool:
        """True where a limit was exceeded and nothing says yet by what."""
        is_over = self.verdict is not None and self.verdict.word in ("over", "regressed")
        is_leak = self.leak is not None and bool(self.leak.survivors)
        return is_over and not is_leak and self.finding is not None and not self.finding.sites

    def explain(self, explanation: Explanation) -> None:
        """What was live at the peak, where the finding itself does not know."""
        if self.finding is not None:
            self.finding = replace(
                self.finding,
                breakdown=explanation.breakdown,
                sites=explanation.sites,
                peak_at=explanation.peak_at,
                timeline=explanation.timeline,
                notes=(*self.finding.notes, *explanation.notes),
            )

    @property
    def fails_improved(self) -> bool:
        """True where needing less than the baseline is a failure as well."""
        return self.comparison is not None and self.comparison.fails_improved

    @property
    def is_not_held(self) -> bool:
        """True where the test has a baseline, or should have, and was not held against it."""
        is_known = self.baselines is not None and self.baselines.knows(self.nodeid)
        return is_known or (self.comparison is not None and self.comparison.match is None)

    @property
    def grew(self) -> tuple[str, ...]:
        """What changed since the baseline, for a test that is over or has regressed."""
        is_to_tell = self.verdict is not None and self.verdict.word in ("over", "regressed")
        if self.finding is None or not is_to_tell:
            return ()
        told = what_grew(self.comparison, self.finding)
        if told or self.simulated is None or not self.simulated.grew:
            return told
        return (BY_SIMULATION, *self.simulated.grew)

    @property
    def hints(self) -> tuple[Hint, ...]:
        """Known causes that the figures have the evidence of."""
        return () if self.finding is None else hints(self.finding)

    def environment(self) -> Environment:
        """What the figures hold for."""
        return Environment() if self.meter is None else self.meter.environment()

    def result_for(self, report: pytest.TestReport) -> TestResult | None:
        """What a report brings to the controller: once a test, with its call or a failed setup."""
        if not self.check.is_judged or report.when == "teardown":
            return None
        if report.when == "setup":
            if report.passed:
                return None
            self.verdict = verdict_of_setup(report, self.problem)
        elif self.verdict is None:
            return None
        elif report.failed and self.verdict.word in ("within", "improved"):
            if self.fails_improved and self.verdict.word == "improved":
                return self._result(report, self.verdict)
            # Somebody around its call found fault with it.
            self.verdict = Verdict(word="error", reason="the test failed")
        return self._result(report, self.verdict)

    @property
    def _metered(self) -> Meter:
        assert self.meter is not None  # a test without a meter has no call
        return self.meter

    def _verdict(self, finding: Finding, raised: BaseException | None) -> Verdict | None:
        if not finding.did_allocate and not self._is_required:
            return None
        try:
            if raised is not None:
                return verdict_of_exception(
                    finding, raised, self._budget(), self.left_bytes(), self.cap_bytes
                )
            return self._verdict_of_figures(finding)
        except MemreqError as error:
            return Verdict(word="unchecked", reason=str(error))

    def _verdict_of_figures(self, finding: Finding) -> Verdict:
        problem = self.problem or ("" if finding.did_allocate else NOTHING_ALLOCATED)
        if problem:
            return Verdict(word="unchecked", reason=problem)
        verdict = judge(finding.peak, self._budget(), dict(finding.unknown))
        if verdict.word == "within" and self.leak is not None and self.check.leak is not None:
            leak = judge_leak(self.leak.growths, self.check.leak)
            verdict = leak if leak.word == "over" or self.check.budget.is_empty else verdict
        if self.baselines is None:
            return verdict
        self.comparison = self.baselines.compare(
            self.nodeid, self.environment(), finding, self.check.budget.tolerance
        )
        has_limit = self.check.leak is not None or not self.check.budget.is_empty
        return both(verdict, self.comparison.verdict) if has_limit else self.comparison.verdict

    @property
    def _is_required(self) -> bool:
        is_known = self.baselines is not None and self.baselines.knows(self.nodeid)
        return self.check.is_required or is_known

    def _budget(self) -> Budget:
        return self.check.budget.in_bytes(None if self.meter is None else self.meter.card_bytes)

    def _result(self, report: pytest.TestReport, verdict: Verdict) -> TestResult:
        finding = self.finding or Finding(peak=Peak(), did_allocate=False)
        file, line, _ = report.location
        return TestResult(
            nodeid=report.nodeid,
            mode=None if self.meter is None or self.finding is None else self.meter.mode,
            verdict=verdict.word,
            reason=verdict.reason,
            outcome=outcome_of(report),
            peak=finding.peak,
            peak_at=finding.peak_at,
            simulated=self._simulated_beside(finding.peak),
            budget=self._budget_bytes(),
            breakdown=finding.breakdown,
            absolute_peak=finding.absolute_peak,
            devices=finding.devices,
            unknown=dict(finding.unknown),
            held_bytes=finding.held_bytes,
            held_by=finding.held_by[:REPORTED_SITES],
            fixtures_bytes=finding.fixtures_bytes,
            survivors=() if self.leak is None else self.leak.survivors,
            snapshot=self.snapshot,
            sites=finding.sites[:REPORTED_SITES],
            timeline=thin_out(finding.timeline, REPORTED_POINTS),
            baseline=None if self.comparison is None else self.comparison.before,
            grew=self.grew,
            hints=self.hints,
            notes=(*finding.notes, *pretended_note(finding)),
            duration_seconds=report.duration,
            file=file,
            line=None if line is None else line + 1,
        )

    def _simulated_beside(self, measured: Peak) -> Simulated | None:
        if self.simulated is None or self.simulated.reason:
            return self.simulated
        return replace(self.simulated, divergence=beyond(self.simulated.peak, measured, self.bound))

    def _budget_or_none(self) -> Budget | None:
        try:
            return self._budget()
        except MemreqError:
            return None  # a share of a card that is not known; the verdict says so

    def _budget_bytes(self) -> dict[str, int]:
        budget = self._budget_or_none()
        limits = {} if budget is None else {metric: budget.of(metric) for metric in METRICS}
        return {f"{m}_bytes": int(limit) for m, limit in limits.items() if limit is not None}


COURSE = pytest.StashKey[Course]()
