"""Verdicts on tests that did not come through, and what is said of made-up values."""

from __future__ import annotations

import pytest

from pytest_memreq.errors import SimulationError
from pytest_memreq.gate.budget import Budget
from pytest_memreq.gate.verdict import Verdict, judge_refusal
from pytest_memreq.plugin.frames import is_out_of_memory
from pytest_memreq.requirement import Finding
from pytest_memreq.results import Outcome

SHOWN_PRETENDED = 3


def verdict_of_exception(
    finding: Finding,
    raised: BaseException,
    budget: Budget,
    left_bytes: int,
    cap_bytes: int | None,
) -> Verdict:
    """On a test whose call raised; the rest as `judge_refusal` takes it."""
    if isinstance(raised, pytest.skip.Exception):
        return Verdict(word="unchecked", reason=f"skipped: {raised.msg}", cause="skipped")
    if isinstance(raised, SimulationError):
        return Verdict(word="unchecked", reason=str(raised))
    if finding.refusal is not None and is_out_of_memory(raised):
        return judge_refusal(finding.refusal, budget, left_bytes, cap_bytes)
    calls = ", ".join(finding.pretended[:SHOWN_PRETENDED])
    if isinstance(raised, AssertionError) and calls:
        return Verdict(
            word="unchecked",
            reason=f"needs real values ({calls}); a device has them (--memreq=measure)",
        )
    made_up = f", after values were made up ({calls}); a device has real ones (--memreq=measure)"
    reason = f"the test raised {type(raised).__name__}{made_up if calls else ''}"
    return Verdict(word="error", reason=reason)


def verdict_of_setup(report: pytest.TestReport, problem: str) -> Verdict:
    """On a test whose call never came; `problem` is ours."""
    if report.skipped:
        where = report.longrepr
        reason = where[2] if isinstance(where, tuple) else str(where)
        reason = f"skipped: {reason.removeprefix('Skipped: ')}"
        return Verdict(word="unchecked", reason=reason, cause="skipped")
    if problem:
        return Verdict(word="unchecked", reason=problem)
    return Verdict(word="error", reason="the test's setup failed")


def pretended_note(finding: Finding) -> tuple[str, ...]:
    """The first calls that were answered with a made-up value, in a line; none if none was."""
    if not finding.pretended:
        return ()
    calls = ", ".join(finding.pretended[:SHOWN_PRETENDED])
    more = len(finding.pretended) - SHOWN_PRETENDED
    return (f"values were made up: {calls}" + (f" and {more} more" if more > 0 else ""),)


def outcome_of(report: pytest.TestReport) -> Outcome:
    """pytest's own, with expected failures told apart."""
    if hasattr(report, "wasxfail"):
        return "xfailed" if report.skipped else "xpassed"
    return report.outcome
