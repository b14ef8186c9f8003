"""What changes in a baseline, as Markdown for a pull request that can also be read as it is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from pytest_memreq.gate.baseline import Entry
from pytest_memreq.gate.baseline_update import Change, Update
from pytest_memreq.reports.markup import code_cell, code_span
from pytest_memreq.reports.text import visible
from pytest_memreq.requirement import METRICS, Metric
from pytest_memreq.units import format_size

HEAD = ("test", "metric", "old", "new", "change")
NOTHING = "-"


def render(update: Update) -> str:
    """A table for each class of devices, a row a figure that changes, and a line that counts.

    A new test, and one that is gone, has one row, of `allocated` where that is known.
    """
    ordered = sorted(update.changes, key=lambda change: (str(change.entry.device), change.order))
    tables = [
        _table(device, [row for change in changes for row in _rows(change)])
        for device, changes in groupby(ordered, key=lambda change: str(change.entry.device))
    ]
    return "\n\n".join([*tables, counted(update)])


def counted(update: Update) -> str:
    """One line: `2 new, 1 changed, 1 gone, 30 as before`."""
    changes = update.changes
    counts = {
        "new": sum(change.old is None for change in changes),
        "changed": sum(change.old is not None and change.new is not None for change in changes),
        "gone": sum(change.new is None for change in changes),
        "as before": update.kept,
    }
    told = [f"{count} {word}" for word, count in counts.items() if count]
    return f"baseline: {', '.join(told) or 'empty'}"


def _table(device: str, rows: Sequence[Sequence[str]]) -> str:
    cells = [HEAD, *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        f"| {' | '.join(cell.ljust(n) for cell, n in zip(row, widths, strict=True))} |"
        for row in cells
    ]
    rule = f"|{'|'.join('-' * (width + 2) for width in widths)}|"
    return "\n".join([f"Baseline of {code_span(device)}:", "", lines[0], rule, *lines[1:]])


def _rows(change: Change) -> list[tuple[str, ...]]:
    metrics = _changed(change) or [_first(change.entry)]
    return [_row(change, metric) for metric in metrics]


def _row(change: Change, metric: Metric) -> tuple[str, ...]:
    old, new = change.old, change.new
    old_bytes = None if old is None else old.peak.of(metric)
    new_bytes = None if new is None else new.peak.of(metric)
    return (
        code_cell(change.entry.nodeid),
        metric,
        _size(old, old_bytes) + _origin(change),
        _size(new, new_bytes),
        _moved(change, old_bytes, new_bytes),
    )


def _changed(change: Change) -> list[Metric]:
    if change.old is None or change.new is None:
        return []
    pairs = [(metric, change.old.peak.of(metric), change.new.peak.of(metric)) for metric in METRICS]
    return [metric for metric, old, new in pairs if old != new]


def _first(entry: Entry) -> Metric:
    """Allocated, else the first metric that is known."""
    known: list[Metric] = [metric for metric in METRICS if entry.peak.of(metric) is not None]
    return "allocated" if "allocated" in known else known[0]


def _size(entry: Entry | None, size_bytes: int | None) -> str:
    if entry is None:
        return NOTHING
    return "?" if size_bytes is None else format_size(size_bytes)


def _origin(change: Change) -> str:
    """Of which torch the old figure is, where it is of another."""
    if change.old is None or change.new is None or change.old.device == change.new.device:
        return ""
    return f" (torch {visible(change.old.device.torch or '?')})"


def _moved(change: Change, old_bytes: int | None, new_bytes: int | None) -> str:
    if change.old is None or change.new is None:
        return "new" if change.old is None else "gone"
    if old_bytes is None or new_bytes is None:
        return "now known" if old_bytes is None else "no longer known"
    if old_bytes == new_bytes:
        return "its breakdown" if change.old.device == change.new.device else "none"
    share = f" ({new_bytes / old_bytes - 1:+.2%})" if old_bytes else ""
    return f"{new_bytes - old_bytes:+,} bytes{share}"
