"""The verdict on a peak: pure, from the figures alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from pytest_memreq.gate.budget import Budget
from pytest_memreq.requirement import METRICS, Metric, Peak, Refusal, Site, Survivor
from pytest_memreq.units import format_size

Word = Literal["within", "over", "regressed", "improved", "unchecked", "error"]
VERDICT_WORDS: tuple[Word, ...] = (
    "within",
    "over",
    "regressed",
    "improved",
    "unchecked",
    "error",
)
# Why a verdict is what it is, where something depends on it.
Cause = Literal["skipped", "not_in_baseline"]
NOTHING_ALLOCATED = "nothing was allocated on the device; move the model and its inputs there"
NO_REASONS: Mapping[Metric, str] = MappingProxyType({})
SHOWN_SITES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One of the verdict words, and why in one line; nothing is read from the `reason`."""

    word: Word
    reason: str
    cause: Cause | None = None


def judge(peak: Peak, budget: Budget, reasons: Mapping[Metric, str] = NO_REASONS) -> Verdict:
    """Hold a peak against a budget in bytes (`Budget.in_bytes`); a peak equal to it is within.

    A limit whose metric is not known leaves the verdict `unchecked`, unless another limit is
    exceeded: what is known to be over stays over. `reasons` say why a metric is not known.
    """
    limits = {metric: limit for metric in METRICS if (limit := budget.of(metric)) is not None}
    excesses = [_excess(metric, peak, limit) for metric, limit in limits.items()]
    over = [text for text in excesses if text]
    unknown = [metric for metric in limits if peak.of(metric) is None]
    if over:
        return Verdict(word="over", reason="; ".join(over))
    if unknown:
        why = "".join(f": {reasons[metric]}" for metric in unknown if metric in reasons)
        text = f"the {' and '.join(unknown)} peak is not known{why}"
        return Verdict(word="unchecked", reason=text)
    if not limits:
        return Verdict(word="within", reason="no budget was set")
    return Verdict(word="within", reason=_tightest(peak, budget, tuple(limits)))


def judge_refusal(
    refusal: Refusal, budget: Budget, held_bytes: int, capped_bytes: int | None
) -> Verdict:
    """Hold an allocation that was refused against a budget in bytes.

    `held_bytes` were left by others; `capped_bytes` is the most that the allocator was let hold,
    None for all of the card.
    """
    least_bytes = refusal.least_bytes or refusal.requested_bytes
    needed_bytes = refusal.allocated_bytes - held_bytes + least_bytes
    at_most = "" if refusal.least_bytes is None else "at most "
    others = f", {figure(held_bytes)} of that left by others" if held_bytes else ""
    cap = f", which was held to {figure(capped_bytes)}" if capped_bytes is not None else ""
    told = (
        f"out of memory{cap}: asked for {at_most}{figure(refusal.requested_bytes)} "
        f"with {figure(refusal.allocated_bytes)} allocated{others}"
    )
    limit = budget.of("allocated")
    if limit is not None and needed_bytes > limit:
        over = figure(needed_bytes - int(limit))
        return Verdict(
            word="over",
            reason=f"{told}: over the budget of {figure(int(limit))} by at least {over}",
        )
    allowed = f"; the budget is {figure(int(limit))}" if limit is not None else ""
    if budget.of("reserved") is not None and capped_bytes is not None:
        return Verdict(word="over", reason=f"{told}: reserved would be over its budget")
    return Verdict(word="error", reason=f"{told}{allowed}")


def failure_message(
    nodeid: str,
    reason: str,
    sites: Sequence[Site],
    survivors: Sequence[Survivor] = (),
    grew: Sequence[str] = (),
) -> str:
    """What a test fails with for its memory: figures, what grew, and the largest things live."""
    lines = [f"{nodeid}: {reason}"]
    if survivors:
        lines.append("still alive, largest first:")
        lines += [f"  {describe_survivor(each)}" for each in survivors[:SHOWN_SITES]]
        return "\n".join(lines)
    if grew:
        lines += ["what grew:", *(f"  {line}" for line in grew)]
    if sites:
        lines.append("live at the peak, largest first:")
        lines += [f"  {describe_site(site)}" for site in sites[:SHOWN_SITES]]
    return "\n".join(lines)


def describe_site(site: Site) -> str:
    """One line: `1.53 GiB activations  head  (8, 1024, 50257) float32  aten.mm  models.py:88`."""
    shape = f"{site.shape} {site.dtype}" if site.shape is not None else ""
    count = f"{site.count} x" if site.count > 1 else ""
    parts = (site.module, f"{count} {shape}".strip(), site.operator, site.source)
    return "  ".join([f"{format_size(site.bytes):>10} {site.category}", *filter(None, parts)])


def _excess(metric: Metric, peak: Peak, limit: int | float) -> str | None:
    size = peak.of(metric)
    if size is None or size <= limit:
        return None
    return (
        f"{metric} peak {figure(size)} is over the budget of {figure(int(limit))} "
        f"by {figure(size - int(limit))}"
    )


def _tightest(peak: Peak, budget: Budget, metrics: Sequence[Metric]) -> str:
    def left(metric: Metric) -> int:
        return int(budget.of(metric) or 0) - (peak.of(metric) or 0)

    metric = min(metrics, key=left)
    return f"{metric} peak {figure(peak.of(metric) or 0)}, {format_size(left(metric))} to spare"


def describe_survivor(survivor: Survivor) -> str:
    """One line: `4.00 MiB  (1024, 1024) float32  test_x.py:8  held by CACHE of test_x, a list`."""
    count = f"{survivor.count} x " if survivor.count > 1 else ""
    held = f"held by {'; '.join(survivor.referrers)}" if survivor.referrers else ""
    parts = (f"{count}{survivor.shape} {survivor.dtype}", survivor.source, held)
    return "  ".join([f"{format_size(survivor.bytes):>10}", *filter(None, parts)])


def figure(size_bytes: int) -> str:
    """Rounded for reading and exact: `1.00 KiB (1,024 bytes)`."""
    exact = "1 byte" if size_bytes == 1 else f"{size_bytes:,} bytes"
    return f"{format_size(size_bytes)} ({exact})" if size_bytes >= 1024 else exact
