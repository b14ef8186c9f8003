"""The verdict on a peak: pure, from the figures alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_memreq.gate.budget import Budget
from pytest_memreq.requirement import METRICS, Metric, Peak, Site
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
NOTHING_ALLOCATED = "nothing was allocated on the device"
SHOWN_SITES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One of the verdict words, and why in one line."""

    word: Word
    reason: str


def judge(peak: Peak, budget: Budget) -> Verdict:
    """Hold a peak against a budget in bytes (`Budget.in_bytes`); a peak equal to it is within.

    A limit whose metric is not known leaves the verdict `unchecked`, unless another limit is
    exceeded: what is known to be over stays over.
    """
    limits = {metric: limit for metric in METRICS if (limit := budget.of(metric)) is not None}
    excesses = [_excess(metric, peak, limit) for metric, limit in limits.items()]
    over = [text for text in excesses if text]
    unknown = [metric for metric in limits if peak.of(metric) is None]
    if over:
        return Verdict(word="over", reason="; ".join(over))
    if unknown:
        return Verdict(word="unchecked", reason=f"the {' and '.join(unknown)} peak is not known")
    if not limits:
        return Verdict(word="within", reason="no budget was set")
    return Verdict(word="within", reason=_tightest(peak, budget, tuple(limits)))


def failure_message(nodeid: str, reason: str, sites: Sequence[Site]) -> str:
    """What a test over its budget fails with: test, figures, and the largest things live."""
    lines = [f"{nodeid}: {reason}"]
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
        f"{metric} peak {_figure(size)} is over the budget of {_figure(int(limit))} "
        f"by {_figure(size - int(limit))}"
    )


def _tightest(peak: Peak, budget: Budget, metrics: Sequence[Metric]) -> str:
    def left(metric: Metric) -> int:
        return int(budget.of(metric) or 0) - (peak.of(metric) or 0)

    metric = min(metrics, key=left)
    return f"{metric} peak {_figure(peak.of(metric) or 0)}, {format_size(left(metric))} to spare"


def _figure(size_bytes: int) -> str:
    exact = "1 byte" if size_bytes == 1 else f"{size_bytes:,} bytes"
    return f"{format_size(size_bytes)} ({exact})" if size_bytes >= 1024 else exact
