"""A test beside its baseline: the verdict, what it was held against, and what grew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_memreq.gate.account import Account, account_of
from pytest_memreq.gate.baseline import (
    Baseline,
    DeviceClass,
    Match,
    Missing,
    judge_baseline,
    judge_missing,
)
from pytest_memreq.gate.explain import explain, explanation_lines
from pytest_memreq.gate.tolerance import Tolerance
from pytest_memreq.gate.verdict import NO_REASONS, Verdict, Word
from pytest_memreq.requirement import Finding, Metric, Peak


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What a test was held against, and the `verdict` by that alone: None where there was nothing.

    `device` and `peak` are those of the entry, `tolerance` as it is written.
    """

    verdict: Word | None = None
    device: DeviceClass | None = None
    peak: Peak | None = None
    tolerance: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The verdict of a baseline, in a form to keep, and the entry that it is from."""

    verdict: Verdict
    before: Before
    match: Match | None = None
    fails_improved: bool = False


def compare(
    baseline: Baseline,
    nodeid: str,
    device: DeviceClass,
    peak: Peak,
    *,
    said: Tolerance,
    missing: Missing,
    reasons: Mapping[Metric, str] = NO_REASONS,
) -> Comparison:
    """Hold a test's peak against the entry that matches, by the tolerance that was `said` for it.

    What that leaves open is the match's own; `reasons` say why a metric is not known.
    """
    match = baseline.find(nodeid, device)
    if match is None:
        return Comparison(verdict=judge_missing(baseline, nodeid, device, missing), before=Before())
    tolerance = said.over(match.tolerance)
    verdict = judge_baseline(peak, match, tolerance, reasons)
    return Comparison(
        verdict=verdict,
        before=Before(
            verdict=verdict.word,
            device=match.entry.device,
            peak=match.entry.peak,
            tolerance=str(tolerance),
        ),
        match=match,
        fails_improved=tolerance.improved == "fail",
    )


def what_grew(comparison: Comparison | None, finding: Finding) -> tuple[str, ...]:
    """What changed since the entry, in lines that add up; none where one side does not know."""
    match = None if comparison is None else comparison.match
    base = None if match is None else account_of(match.entry)
    total_bytes = finding.peak.allocated_bytes
    if base is None or total_bytes is None or base.total_bytes == total_bytes:
        return ()
    if base.breakdown is None and finding.breakdown is None:
        return ()
    head = Account(total_bytes=total_bytes, breakdown=finding.breakdown, sites=finding.sites)
    return explanation_lines(explain(base, head), base=str(match))
