"""How a test stands against its baseline: the verdict, what it was held against, what grew."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from pytest_memreq.choices import Missing
from pytest_memreq.gate.account import Account, account_of
from pytest_memreq.gate.baseline import (
    Baseline,
    Before,
    DeviceClass,
    Match,
    judge_baseline,
    judge_missing,
)
from pytest_memreq.gate.explain import explain, explanation_lines
from pytest_memreq.gate.tolerance import Tolerance
from pytest_memreq.gate.verdict import NO_REASONS, Verdict, Word
from pytest_memreq.requirement import Finding, Metric, Peak

KEEP = "--memreq-update failing takes the gain into the baseline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What a run writes, by the word of the baseline on a test (None: it has no entry).

    What is written passes, and its reason ends with `told`, who writes it.
    """

    words: Collection[Word | None] = frozenset()
    told: str = "now recorded"


NOTHING_RECORDED = Recorded()


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The verdict of a baseline, in a form to keep, and the entry that it is from."""

    verdict: Verdict
    before: Before
    match: Match | None = None
    fails_improved: bool = False


def standing_of(
    baseline: Baseline,
    nodeid: str,
    device: DeviceClass,
    peak: Peak,
    *,
    said: Tolerance,
    missing: Missing,
    reasons: Mapping[Metric, str] = NO_REASONS,
    recorded: Recorded = NOTHING_RECORDED,
) -> Standing:
    """Hold a test's peak against the entry that matches, by the tolerance that was `said` for it.

    What that leaves open is the match's own; `reasons` say why a metric is not known.
    """
    match = baseline.find(nodeid, device)
    if match is None:
        how: Missing = "record" if None in recorded.words else missing
        verdict = judge_missing(baseline, nodeid, device, how)
        told = f"{verdict.reason}, {recorded.told}" if how == "record" else verdict.reason
        return Standing(verdict=replace(verdict, reason=told), before=Before())
    tolerance = said.over(match.tolerance)
    verdict = judge_baseline(peak, match, tolerance, reasons)
    before = Before(
        verdict=verdict.word,
        device=match.entry.device,
        peak=match.entry.peak,
        tolerance=str(tolerance),
    )
    ended = _ended(verdict, recorded)
    fails_improved = ended.word == "improved" and tolerance.improved == "fail"
    return Standing(verdict=ended, before=before, match=match, fails_improved=fails_improved)


def _ended(verdict: Verdict, recorded: Recorded) -> Verdict:
    """A test that moved passes where it is written; a gain that is not says how to keep it."""
    if verdict.word in ("regressed", "improved") and verdict.word in recorded.words:
        return Verdict(word="within", reason=f"{verdict.reason}; {recorded.told}")
    if verdict.word == "improved":
        return replace(verdict, reason=f"{verdict.reason}; {KEEP}")
    return verdict


def what_grew(standing: Standing | None, finding: Finding) -> tuple[str, ...]:
    """What changed since the entry, in lines that add up; none where one side does not know."""
    match = None if standing is None else standing.match
    base = None if match is None else account_of(match.entry)
    total_bytes = finding.peak.allocated_bytes
    if base is None or total_bytes is None or base.total_bytes == total_bytes:
        return ()
    if base.breakdown is None and finding.breakdown is None:
        return ()
    head = Account(total_bytes=total_bytes, breakdown=finding.breakdown, sites=finding.sites)
    return explanation_lines(explain(base, head), base=str(match))
