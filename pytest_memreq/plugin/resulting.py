"""From the course of a test to what is reported of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_memreq.gate.divergence import beyond
from pytest_memreq.gate.tolerance import Tolerance
from pytest_memreq.gate.verdict import Verdict, Word
from pytest_memreq.plugin.course import Course
from pytest_memreq.plugin.judging import outcome_of, pretended_note, verdict_of_setup
from pytest_memreq.requirement import METRICS, Finding, Peak
from pytest_memreq.results import Simulated, TestResult
from pytest_memreq.timeline import REPORTED_POINTS, thin_out

REPORTED_SITES = 100  # a large model has thousands; the breakdown has them all


def result_for(course: Course, report: pytest.TestReport, bound: Tolerance) -> TestResult | None:
    """What a report brings to the controller: once a test, with its call or a failed setup.

    A simulation diverges that is further than `bound` from what was measured.
    """
    if not course.check.is_judged or report.when == "teardown":
        return None
    if report.when == "setup":
        if report.passed:
            return None
        course.verdict = course.verdict or verdict_of_setup(report, course.problem)
    elif course.verdict is None:
        return None
    elif report.failed and course.verdict.word in _passing(course):
        # Somebody around its call found fault with it.
        course.verdict = Verdict(word="error", reason="the test failed")
    return _result(course, report, course.verdict, bound)


def _passing(course: Course) -> tuple[Word, ...]:
    return ("within",) if course.fails_improved else ("within", "improved")


def _result(
    course: Course, report: pytest.TestReport, verdict: Verdict, bound: Tolerance
) -> TestResult:
    finding = course.finding or Finding(peak=Peak(), did_allocate=False)
    rehearsed, leak = course.rehearsed, course.leak
    file, line, _ = report.location
    return TestResult(
        nodeid=report.nodeid,
        mode=None if course.meter is None or course.finding is None else course.meter.mode,
        verdict=verdict.word,
        reason=verdict.reason,
        cause=verdict.cause,
        outcome=outcome_of(report),
        peak=finding.peak,
        peak_at=finding.peak_at,
        simulated=None if rehearsed is None else _beside(rehearsed.said, finding.peak, bound),
        budget=_budget_bytes(course),
        breakdown=finding.breakdown,
        absolute_peak=finding.absolute_peak,
        devices=finding.devices,
        unknown=dict(finding.unknown),
        held_bytes=finding.held_bytes,
        held_by=finding.held_by[:REPORTED_SITES],
        fixtures_bytes=finding.fixtures_bytes,
        survivors=() if leak is None else leak.survivors,
        snapshot=course.snapshot,
        sites=finding.sites[:REPORTED_SITES],
        timeline=thin_out(finding.timeline, REPORTED_POINTS),
        baseline=None if course.standing is None else course.standing.before,
        grew=course.grew,
        hints=course.hints,
        notes=_notes(course, finding),
        duration_seconds=report.duration,
        file=file,
        line=None if line is None else line + 1,
    )


def _notes(course: Course, finding: Finding) -> tuple[str, ...]:
    of_rehearsal = () if course.rehearsed is None else course.rehearsed.notes
    return (*finding.notes, *pretended_note(finding), *of_rehearsal)


def _beside(said: Simulated, measured: Peak, bound: Tolerance) -> Simulated:
    """A simulation that came through, with how far it is from what was measured."""
    if said.reason:
        return said
    return replace(said, divergence=beyond(said.peak, measured, bound))


def _budget_bytes(course: Course) -> dict[str, int]:
    budget = course.budget_or_none()
    limits = {} if budget is None else {metric: budget.of(metric) for metric in METRICS}
    return {f"{m}_bytes": int(limit) for m, limit in limits.items() if limit is not None}
