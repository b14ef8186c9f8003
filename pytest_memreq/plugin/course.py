"""One checked test under way: from what it needed to a verdict, and what the verdict does to it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from pytest_memreq.errors import MemoryBudgetExceeded, MemreqError, SimulationError
from pytest_memreq.gate.budget import Budget
from pytest_memreq.gate.verdict import NOTHING_ALLOCATED, Verdict, failure_message, judge
from pytest_memreq.plugin.checks import Check
from pytest_memreq.plugin.config import Settings
from pytest_memreq.plugin.meters import Meter
from pytest_memreq.requirement import METRICS, Finding, Peak
from pytest_memreq.results import Environment, Outcome, Simulated, TestResult

SHOWN_PRETENDED = 3
REPORTED_SITES = 100  # a large model has thousands; the breakdown has them all
BYSTANDER = (
    "memreq: needs a CUDA device, which is only pretended here "
    "(run with --memreq=off, or keep it in a module without budgets)"
)


@dataclass(slots=True, kw_only=True)
class Course:
    """A test's check and meter; `finding` and `verdict` are there once its call is over.

    A rehearsal is the simulation of a test before it is measured, which then has what it said as
    `simulated`.
    """

    check: Check
    meter: Meter | None
    problem: str = ""
    is_rehearsal: bool = False
    simulated: Simulated | None = None
    finding: Finding | None = None
    verdict: Verdict | None = None

    def conclude(self, raised: BaseException | None) -> None:
        """Take the finding, and reach the verdict; `raised` is what the test's call raised."""
        assert self.meter is not None  # a test without a meter has no call
        self.finding = self.meter.finding()
        if self.check.is_judged:
            self.verdict = self._verdict(self.finding, raised)

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
            self.verdict = _verdict_of_setup(report)
        elif self.verdict is None:
            return None
        elif report.failed and self.verdict.word in ("within", "improved"):
            # unittest keeps what a test raised from those around its call.
            self.verdict = Verdict(word="error", reason="the test failed")
        return self._result(report, self.verdict)

    def _verdict(self, finding: Finding, raised: BaseException | None) -> Verdict | None:
        if not finding.did_allocate and not self.check.is_required:
            return None
        if raised is not None:
            return _verdict_of_exception(finding, raised)
        if not finding.did_allocate:
            return Verdict(word="unchecked", reason=NOTHING_ALLOCATED)
        try:
            return judge(finding.peak, self._budget())
        except MemreqError as error:
            return Verdict(word="unchecked", reason=str(error))

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
            outcome=_outcome(report),
            peak=finding.peak,
            peak_at=finding.peak_at,
            simulated=self.simulated,
            budget=self._budget_bytes(),
            breakdown=finding.breakdown,
            held_bytes=finding.held_bytes,
            sites=finding.sites[:REPORTED_SITES],
            notes=(*finding.notes, *_pretended_note(finding)),
            duration_seconds=report.duration,
            file=file,
            line=None if line is None else line + 1,
        )

    def _budget_bytes(self) -> dict[str, int]:
        try:
            budget = self._budget()
        except MemreqError:
            return {}  # a share of a card that is not known; the verdict says so
        return {
            f"{metric}_bytes": int(limit)
            for metric in METRICS
            if (limit := budget.of(metric)) is not None
        }


COURSE = pytest.StashKey[Course]()


def enforce(nodeid: str, course: Course, settings: Settings) -> None:
    """Fail or skip the test whose verdict asks for it; return where it may go on as it went."""
    __tracebackhide__ = True
    if course.is_rehearsal:
        return
    if course.check.is_bystander and course.finding is not None and course.finding.did_allocate:
        pytest.skip(BYSTANDER)
    verdict = course.verdict
    if verdict is None:
        return
    if verdict.word == "over":
        sites = course.finding.sites if course.finding is not None else ()
        raise MemoryBudgetExceeded(failure_message(nodeid, verdict.reason, sites))
    if verdict.word == "unchecked" and not verdict.reason.startswith("skipped"):
        message = f"memreq: unchecked: {verdict.reason}"
        if settings.unchecked == "skip":
            pytest.skip(message)
        pytest.fail(message, pytrace=False)


def _verdict_of_exception(finding: Finding, raised: BaseException) -> Verdict:
    if isinstance(raised, pytest.skip.Exception):
        return Verdict(word="unchecked", reason=f"skipped: {raised.msg}")
    if isinstance(raised, SimulationError):
        return Verdict(word="unchecked", reason=str(raised))
    if isinstance(raised, AssertionError) and finding.pretended:
        calls = ", ".join(finding.pretended[:SHOWN_PRETENDED])
        return Verdict(word="unchecked", reason=f"needs real values ({calls})")
    return Verdict(word="error", reason=f"the test raised {type(raised).__name__}")


def _verdict_of_setup(report: pytest.TestReport) -> Verdict:
    if report.skipped:
        where = report.longrepr
        reason = where[2] if isinstance(where, tuple) else str(where)
        return Verdict(word="unchecked", reason=f"skipped: {reason.removeprefix('Skipped: ')}")
    return Verdict(word="error", reason="the test's setup failed")


def _outcome(report: pytest.TestReport) -> Outcome:
    if hasattr(report, "wasxfail"):
        return "xfailed" if report.skipped else "xpassed"
    return report.outcome


def _pretended_note(finding: Finding) -> tuple[str, ...]:
    if not finding.pretended:
        return ()
    calls = ", ".join(finding.pretended[:SHOWN_PRETENDED])
    more = len(finding.pretended) - SHOWN_PRETENDED
    return (f"values were made up: {calls}" + (f" and {more} more" if more > 0 else ""),)
