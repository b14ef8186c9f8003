"""The section in the terminal: a row a test, its breakdown below one that needs a look."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pytest_memreq.gate.verdict import Word, figure
from pytest_memreq.reports.rows import (
    counted,
    counted_notes,
    evidence,
    needs_a_look,
    ranks_text,
    shown_verdict,
    size_text,
    source,
    tightest,
    together_lines,
    unfinished,
    used_shares,
)
from pytest_memreq.reports.text import shortened, visible
from pytest_memreq.requirement import METRICS, Metric, Peak
from pytest_memreq.results import Results, Simulated, TestResult
from pytest_memreq.units import format_size

BAR_CELLS = 10
SHOWN_HOLDERS = 3
INDENT = "    "


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the section, and the verdict that it is about."""

    text: str
    verdict: Word | None = None


def render(results: Results, *, width: int) -> list[Line]:
    """The section's lines, none wider than `width` but for a reason or a site."""
    where = results.environment
    of_peaks = "" if where.mode is None else "; peaks are of allocated"
    lines = [Line(f"{source(where)}{of_peaks}")]
    unknown = unfinished(results)
    lines += [Line(unknown, "error")] if unknown else []
    for test in results.tests:
        lines += [Line(text, test.verdict) for text in _rows(test, width)]
        lines += [Line(INDENT + text, test.verdict) for text in _details(test, where.gpu)]
    lines += [Line(f"note: {visible(note)} ({count})") for note, count in counted_notes(results)]
    lines += [Line(text) for text in together_lines(results)]
    return [*lines, Line(counted(results))]


def _rows(test: TestResult, width: int) -> Iterator[str]:
    used, metric = used_shares(test), tightest(test)
    peak = size_text(test.peak.of(metric))
    figures = f"{shown_verdict(test):9} {peak:>11} {_beside_limit(test, metric)}"
    if test.budget or test.baseline is None:
        figures = f"{figures} {_bar(used.get(metric))}"
    nodeid = visible(test.nodeid)
    place = f"  {visible(test.peak_at)}" if test.peak_at else ""
    if len(figures) + len(nodeid) + len(place) < width:
        yield f"{figures} {nodeid}{place}"
        return
    yield figures
    yield INDENT + shortened(nodeid, width - len(INDENT))
    if place:
        yield f"{INDENT}{shortened(f'peak: {place.strip()}', width - len(INDENT))}"


def _beside_limit(test: TestResult, metric: Metric) -> str:
    """The budget of the metric; without any budget, what the test needed before."""
    name = "" if metric == "allocated" else f" {metric}"
    before = None if test.baseline is None else test.baseline.peak
    if not test.budget and before is not None:
        return f"was {size_text(before.of(metric)):>10}{name}"
    limit = size_text(test.budget.get(f"{metric}_bytes")) if test.budget else "-"
    return f"of {limit:>11}{name}"


def _details(test: TestResult, card: str | None) -> Iterator[str]:
    if test.gpu is not None and test.gpu != card:
        yield f"{test.mode} on {visible(test.gpu)}"
    if test.simulated is not None:
        yield visible(_beside(test.simulated, test.peak))
        yield from map(visible, test.simulated.divergence)
    ranks = ranks_text(test)
    if ranks is not None:
        yield ranks
    if test.held_by:
        yield visible(_held(test.held_by))
    if test.leaked_bytes:
        yield f"left {figure(test.leaked_bytes)} behind"
    yield from map(visible, _by_device(test))
    if not needs_a_look(test):
        return
    yield visible(test.reason)
    yield from map(visible, evidence(test))


def _held(held_by: tuple[tuple[str, int], ...]) -> str:
    shown = ", ".join(f"{format_size(size)} by {who}" for who, size in held_by[:SHOWN_HOLDERS])
    more = len(held_by) - SHOWN_HOLDERS
    total = format_size(sum(size for _, size in held_by))
    return f"not counted, {total} that others left: {shown}{f' and {more} more' * (more > 0)}"


def _by_device(test: TestResult) -> Iterator[str]:
    for device in test.devices:
        yield f"device {device.index}, {device.name}: {size_text(device.peak.allocated_bytes)}"


def _beside(simulated: Simulated, measured: Peak) -> str:
    pairs = [(metric, simulated.peak.of(metric), measured.of(metric)) for metric in METRICS]
    figures = [
        f"{metric} {format_size(size)} ({_difference(size, other)})"
        for metric, size, other in pairs
        if size is not None
    ]
    text = f"simulated on {simulated.gpu}: {', '.join(figures) or 'nothing'}"
    return f"{text}, as far as it came: {simulated.reason}" if simulated.reason else text


def _difference(size: int, measured: int | None) -> str:
    if measured is None:
        return "not measured"
    if size == measured:
        return "as measured"
    share = f", {size / measured - 1:+.2%}" if measured else ""
    return f"{size - measured:+,} bytes{share}"


def _bar(share: float | None) -> str:
    if share is None:
        return f"[{'?' * BAR_CELLS}]     "
    if share > 1:
        return f"[{'#' * (BAR_CELLS - 1)}>] {min(share, 9.99):>4.0%}"
    filled = int(share * BAR_CELLS)
    return f"[{'#' * filled:.<{BAR_CELLS}}] {share:>4.0%}"
