"""Layouts that were judged, as text for people and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pytest_memreq.cli.limits import Limit
from pytest_memreq.cli.tables import aligned
from pytest_memreq.layouts.judging import Judged
from pytest_memreq.layouts.layout import Layout
from pytest_memreq.requirement import Metric
from pytest_memreq.units import format_size

HEAD = (
    *("ZeRO", "Tensor", "Data", "Recompute", "Offload", "Batch"),
    *("Largest", "CPU", "Formula", "Simulated", "Left over"),
)
WORDS = range(3, 5)  # columns that are no numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Layouts in their order, of how many; finalists that were simulated, of how many.

    `left_out` are choices that are not possible. It is not complete where it was interrupted.
    """

    judged: tuple[Judged, ...]
    layouts: int
    left_out: tuple[str, ...]
    limit: Limit
    metric: Metric
    simulated: int
    finalists: int
    is_complete: bool


def name_of(layout: Layout) -> str:
    """A layout in a line."""
    return (
        f"ZeRO-{layout.zero}, tensor {layout.tensor}, data {layout.data:,}, "
        f"recompute {layout.recompute}, offload {layout.offload}, batch {layout.batch:,}"
    )


def as_document(found: Answer) -> dict[str, Any]:
    """Everything, as plain values for JSON; what is not known is null."""
    return {
        "format": 1,
        "status": "complete" if found.is_complete else "incomplete",
        "limit": found.limit.name,
        "limit_bytes": found.limit.bytes,
        "metric": found.metric,
        "asked": {"layouts": found.layouts, "finalists": found.finalists},
        "left_out": list(found.left_out),
        "layouts": [_row(each) for each in found.judged],
    }


def _row(each: Judged) -> dict[str, Any]:
    layout = each.layout
    return {
        "zero": layout.zero,
        "tensor": layout.tensor,
        "data": layout.data,
        "recompute": layout.recompute,
        "offload": layout.offload,
        "batch": layout.batch,
        "samples": layout.samples,
        "largest_batch": each.largest_batch,
        "cpu_bytes": each.cpu_bytes,
        "estimated_bytes": each.estimated_bytes,
        "simulated_bytes": each.simulated_bytes,
        "spare_bytes": each.spare_bytes,
        "fits": each.fits,
        "not_simulated": each.not_simulated,
    }


def as_text(found: Answer, rows: int) -> list[str]:
    """A table of the first rows, what is not in it and why, and the answer in a line."""
    shown = found.judged[:rows]
    cells = [_cells(each) for each in shown]
    numbers = [at for at in range(len(HEAD)) if at not in WORDS]
    table = aligned([HEAD, *cells], numbers=numbers) if shown else []
    return [*table, *_notes(found, rows), *_incomplete(found), _answer(found)]


def _cells(each: Judged) -> list[str]:
    layout, simulated = each.layout, each.simulated_bytes
    return [
        str(layout.zero),
        str(layout.tensor),
        f"{layout.data:,}",
        layout.recompute,
        layout.offload,
        f"{layout.batch:,}",
        f"{each.largest_batch:,}",
        "" if layout.offload == "none" else format_size(each.cpu_bytes),
        format_size(each.estimated_bytes),
        "" if simulated is None else format_size(simulated),
        f"{'' if each.fits else '-'}{format_size(abs(each.spare_bytes))}",
    ]


def _notes(found: Answer, rows: int) -> Iterator[str]:
    if len(found.judged) > rows:
        yield f"and {len(found.judged) - rows:,} more; --rows shows more, --json all"
    yield from (f"left out: {line}" for line in found.left_out)
    reasons = Counter(each.not_simulated for each in found.judged if each.not_simulated)
    yield from (f"not simulated, {count} of them: {why}" for why, count in reasons.items())


def _incomplete(found: Answer) -> Iterator[str]:
    if not found.is_complete:
        yield (
            f"incomplete, for it was interrupted: {len(found.judged):,} of {found.layouts:,} "
            f"layouts by formula, {found.simulated} of {found.finalists} by simulation"
        )


def _answer(found: Answer) -> str:
    if not found.judged:
        return "nothing was found out"
    best, fitting = found.judged[0], sum(each.fits for each in found.judged)
    how = "by formula" if best.simulated_bytes is None else f"{found.metric}, simulated"
    head = f"{fitting:,} of {len(found.judged):,} layouts fit {found.limit.name}"
    size = format_size(abs(best.spare_bytes))
    if not best.fits:
        return f"{head}; the best, {name_of(best.layout)}, is {size} too much ({how})"
    return f"{head}; the most is left over with {name_of(best.layout)}: {size} ({how})"
