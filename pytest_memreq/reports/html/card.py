"""What the page shows of one test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_memreq.gate.change import shape_text, signed
from pytest_memreq.gate.verdict import describe_survivor, figure
from pytest_memreq.reports.html import curve, treemap
from pytest_memreq.reports.html.boxes import Box
from pytest_memreq.reports.html.view import Card, Figures, Listing, Live, Row
from pytest_memreq.reports.rows import (
    breakdown_text,
    needs_a_look,
    shown_verdict,
    size_text,
    tightest,
    used_shares,
)
from pytest_memreq.reports.text import shortened, visible
from pytest_memreq.requirement import METRICS, Metric, Site
from pytest_memreq.results import Simulated, TestResult
from pytest_memreq.timeline import REPORTED_POINTS, thin_out
from pytest_memreq.units import format_size

ROW_CHARACTERS = 160
NAME_CHARACTERS = 400
TEXT_CHARACTERS = 1000
SHOWN_SITES, SHOWN_BESIDE_NO_PLOT = 12, 3
SHOWN_LINES = 20
NOT_THERE = "-"


def row_of(test: TestResult, anchor: str = "") -> Row:
    """The row of a test: of the metric that is nearest to its limit."""
    metric = tightest(test)
    of = "" if metric == "allocated" else f" {metric}"
    return Row(
        verdict=shown_verdict(test),
        name=shown(test.nodeid, ROW_CHARACTERS) or " ",
        anchor=anchor,
        peak=f"{size_text(test.peak.of(metric))}{of}",
        budget=_budget(test, metric),
        used=_used(test, metric),
        baseline=_baseline(test, metric),
        change=_change(test, metric),
    )


def card_of(test: TestResult, anchor: str, *, has_plots: bool) -> Card:
    """The card of a test."""
    sites = SHOWN_SITES if has_plots else SHOWN_BESIDE_NO_PLOT
    total = test.peak.allocated_bytes or sum(site.bytes for site in test.sites)
    points, curve_of = _timeline(test)
    limits = _limits(test)
    tree = treemap.tree_of(test.sites, test.breakdown) if has_plots else ()
    box = Box(x=0, y=0, width=treemap.WIDTH, height=treemap.HEIGHT)
    return Card(
        anchor=anchor,
        verdict=shown_verdict(test),
        name=shown(test.nodeid, NAME_CHARACTERS) or " ",
        place=_place(test),
        facts=_facts(test),
        reasons=tuple(map(shown, test.reason.split("; ", SHOWN_LINES))),
        figures=tuple(_figures(test)),
        has_simulated=test.simulated is not None,
        grown=tuple(map(shown, test.grew[:SHOWN_LINES])),
        hints=test.hints[:SHOWN_LINES],
        live=tuple(_live(site, total) for site in test.sites[:sites]),
        live_more=_rest(test.sites[sites:]),
        breakdown="" if test.breakdown is None else breakdown_text(test.breakdown),
        listings=tuple(each for each in _listings(test) if each.lines),
        curve=curve.curve_of(points, limits) if has_plots else None,
        curve_of=curve_of,
        tiles=treemap.laid_out(tree, box),
    )


def shown(text: str, most: int = TEXT_CHARACTERS) -> str:
    """A foreign text as it may be seen, and no longer than that."""
    return shortened(visible(text), most)


def _timeline(test: TestResult) -> tuple[Sequence[tuple[int, int]], str]:
    said = test.simulated
    if not test.timeline and said is not None and said.timeline:
        return thin_out(said.timeline, REPORTED_POINTS), "simulated"
    return thin_out(test.timeline, REPORTED_POINTS), test.mode or ""


def _limits(test: TestResult) -> dict[str, int]:
    before = None if test.baseline is None else test.baseline.peak
    sizes = {
        "budget": test.budget.get("allocated_bytes"),
        "baseline": None if before is None else before.allocated_bytes,
    }
    return {kind: size for kind, size in sizes.items() if size is not None}


def _figures(test: TestResult) -> Iterator[Figures]:
    before = None if test.baseline is None else test.baseline.peak
    said = None if test.simulated is None else test.simulated.peak
    for metric in METRICS:
        peaks = [peak.of(metric) for peak in (test.peak, before, said) if peak is not None]
        if any(size is not None for size in peaks) or f"{metric}_bytes" in test.budget:
            yield Figures(
                metric=metric,
                peak=size_text(test.peak.of(metric)),
                budget=_budget(test, metric),
                used=_used(test, metric),
                baseline=_baseline(test, metric),
                change=_change(test, metric),
                simulated=_simulated(test.simulated, test, metric),
            )


def _budget(test: TestResult, metric: Metric) -> str:
    limit = test.budget.get(f"{metric}_bytes")
    return NOT_THERE if limit is None else format_size(limit)


def _used(test: TestResult, metric: Metric) -> str:
    share = used_shares(test).get(metric)
    return NOT_THERE if share is None else f"{min(share, 99.99):.0%}"


def _baseline(test: TestResult, metric: Metric) -> str:
    before = None if test.baseline is None else test.baseline.peak
    size = None if before is None else before.of(metric)
    return NOT_THERE if size is None else format_size(size)


def _change(test: TestResult, metric: Metric) -> str:
    before = None if test.baseline is None else test.baseline.peak
    was, now = None if before is None else before.of(metric), test.peak.of(metric)
    return _difference(was, now)


def _simulated(said: Simulated | None, test: TestResult, metric: Metric) -> str:
    size = None if said is None else said.peak.of(metric)
    if size is None:
        return NOT_THERE
    difference = _difference(test.peak.of(metric), size)
    return f"{format_size(size)}{'' if difference == NOT_THERE else f' ({difference})'}"


def _difference(was: int | None, now: int | None) -> str:
    if was is None or now is None:
        return NOT_THERE
    share = f", {now / was - 1:+.1%}" if was and now != was else ""
    return f"{signed(now - was)}{share}" if now != was else "same"


def _live(site: Site, total: int) -> Live:
    return Live(
        size=format_size(site.bytes),
        share=f"{site.bytes / total:.1%}" if total else NOT_THERE,
        category=site.category,
        module=shown(site.module or NOT_THERE, NAME_CHARACTERS),
        what=shown(", ".join(filter(None, (shape_text(site), site.operator))), NAME_CHARACTERS),
        source=shown(site.source or NOT_THERE, NAME_CHARACTERS),
    )


def _rest(sites: Sequence[Site]) -> str:
    if not sites:
        return ""
    return f"and {len(sites)} more with {format_size(sum(site.bytes for site in sites))}"


def _place(test: TestResult) -> str:
    if test.file is None:
        return ""
    return shown(test.file if test.line is None else f"{test.file}:{test.line}", NAME_CHARACTERS)


def _facts(test: TestResult) -> str:
    parts = [
        "" if test.mode is None else f"{test.mode}{f' on {test.gpu}' if test.gpu else ''}",
        f"pytest: {test.outcome}",
        f"took {test.duration_seconds:.2f} s",
        f"peak in {test.peak_at}" if test.peak_at else "",
    ]
    return shown(" · ".join(filter(None, parts)))


def _listings(test: TestResult) -> Iterator[Listing]:
    yield _listing("Still alive after the test", [*map(describe_survivor, test.survivors)])
    held = [f"{format_size(size)} by {who}" for who, size in test.held_by]
    yield _listing("Not counted, for others left it", held)
    yield _listing("Memory", [*_memory(test)])
    devices = [f"{d.index}, {d.name}: {size_text(d.peak.allocated_bytes)}" for d in test.devices]
    yield _listing("By device", devices)
    yield _listing("Not known", [f"{metric}: {why}" for metric, why in test.unknown.items()])
    if test.simulated is not None:
        yield _listing("Simulated and measured apart", test.simulated.divergence)
        far = [test.simulated.reason] if test.simulated.reason else []
        yield _listing("The simulation came only so far", far)
        is_told = test.grew == test.simulated.grew
        grew = () if is_told or not needs_a_look(test) else test.simulated.grew
        yield _listing("Changes of the simulation since its baseline", grew)
    yield _listing("Notes", test.notes)


def _memory(test: TestResult) -> Iterator[str]:
    if test.fixtures_bytes:
        yield f"fixtures held {figure(test.fixtures_bytes)} of it"
    if test.leaked_bytes:
        yield f"left {figure(test.leaked_bytes)} behind"
    if test.snapshot:
        yield f"snapshot for PyTorch's memory viewer: {test.snapshot}"


def _listing(title: str, lines: Sequence[str]) -> Listing:
    return Listing(
        title=title,
        lines=tuple(map(shown, lines[:SHOWN_LINES])),
        more=max(0, len(lines) - SHOWN_LINES),
    )
