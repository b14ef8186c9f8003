"""How far simulations of the self-test's workloads are from what was measured: values and text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pytest_memreq.cli.tables import aligned
from pytest_memreq.gate.divergence import Pair, pairs
from pytest_memreq.gate.tolerance import Tolerance
from pytest_memreq.measure.selftest import JUDGED, Outcome, Report
from pytest_memreq.requirement import Metric

HEAD = ("Workload", "Metric", "Measured", "Simulated", "Difference", "Share")
TOTALS = ("Metric", "Workloads", "Equal", "Median", "p95", "Worst")
SMALLEST_SHOWN = 0.0001
NO_ANSWER = "its simulation gave no answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A metric of one workload."""

    workload: str
    pair: Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """Of one metric; shares are of what was measured, without a sign but for the worst.

    `p95_share` is the least that 95 % of the workloads do not exceed.
    """

    metric: Metric
    workloads: int
    equal: int
    median_share: float
    p95_share: float
    worst_share: float
    worst_workload: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Workloads measured on `measured_on` and simulated on the card of the table `simulated_on`.

    Without such a card, `reason` says why nothing was simulated. `missing` are pairs of a workload
    that was measured and why it was not simulated.
    """

    measured_on: str
    simulated_on: str | None
    bound: Tolerance
    reason: str = ""
    rows: tuple[Row, ...] = ()
    missing: tuple[tuple[str, str], ...] = ()

    @property
    def totals(self) -> tuple[Total, ...]:
        """Of each metric that is known on both sides."""
        of = {metric: [row for row in self.rows if row.pair.metric == metric] for metric in JUDGED}
        return tuple(_total(metric, rows) for metric, rows in of.items() if rows)

    @property
    def holds(self) -> bool | None:
        """False where one is beyond the bound; None where not every workload was compared."""
        if any(row.pair.is_beyond for row in self.rows):
            return False
        return None if self.missing or not self.rows else True


def accuracy_of(
    reports: Sequence[Report],
    simulated: Mapping[str, Outcome],
    *,
    measured_on: str,
    simulated_on: str,
    bound: Tolerance,
) -> Accuracy:
    """Every workload that was measured beside its simulation, in the order of the reports."""
    rows: list[Row] = []
    missing = []
    for report in reports:
        if report.peak is None or report.failures:
            continue
        outcome = simulated.get(report.name, Outcome(failure=NO_ANSWER))
        if outcome.peak is None:
            missing.append((report.name, outcome.failure or NO_ANSWER))
            continue
        found = pairs(outcome.peak, report.peak, bound)
        rows += [Row(workload=report.name, pair=pair) for pair in found if pair.metric in JUDGED]
    return Accuracy(
        measured_on=measured_on,
        simulated_on=simulated_on,
        bound=bound,
        rows=tuple(rows),
        missing=tuple(missing),
    )


def as_document(found: Accuracy) -> dict[str, Any]:
    """Everything, as plain values for JSON."""
    return {
        "gpu": found.simulated_on,
        "is_same_gpu": found.simulated_on == found.measured_on,
        "reason": found.reason or None,
        "bound": str(found.bound),
        "rows": [_row(row) for row in found.rows],
        "not_simulated": [{"workload": name, "reason": why} for name, why in found.missing],
        "totals": [asdict(total) for total in found.totals],
    }


def _row(row: Row) -> dict[str, Any]:
    pair = row.pair
    return {
        "workload": row.workload,
        "metric": pair.metric,
        "measured_bytes": pair.measured_bytes,
        "simulated_bytes": pair.simulated_bytes,
        "difference_bytes": pair.difference_bytes,
        "share": pair.share,
        "is_beyond": pair.is_beyond,
    }


def as_text(found: Accuracy) -> Iterator[str]:
    """The table of errors, what it adds up to, and what is not in it."""
    if found.simulated_on is None:
        yield f"not simulated: {found.reason}"
        return
    yield f"Simulated on {_card(found)}, beside what was measured; ! is further than {found.bound}:"
    if found.rows:
        yield from aligned([HEAD, *map(_cells, found.rows)], numbers=range(2, 6))
        yield ""
        yield from aligned([TOTALS, *map(_sum, found.totals)], numbers=range(1, 5))
    yield from (f"{name}: not simulated: {why}" for name, why in found.missing)


def _card(found: Accuracy) -> str:
    if found.simulated_on == found.measured_on:
        return f"{found.simulated_on}"
    return f"{found.simulated_on}, the nearest that is known to {found.measured_on}"


def _cells(row: Row) -> list[str]:
    pair = row.pair
    return [
        row.workload,
        pair.metric,
        f"{pair.measured_bytes:,} B",
        f"{pair.simulated_bytes:,} B",
        f"{pair.difference_bytes:+,} B",
        f"{_signed(pair.share)}{' !' * pair.is_beyond}",
    ]


def _sum(total: Total) -> list[str]:
    return [
        total.metric,
        str(total.workloads),
        str(total.equal),
        _signed(total.median_share).removeprefix("+"),
        _signed(total.p95_share).removeprefix("+"),
        f"{_signed(total.worst_share)} ({total.worst_workload})" if total.worst_share else "-",
    ]


def _signed(share: float) -> str:
    """What is not 0 does not look like it."""
    if 0 < abs(share) < SMALLEST_SHOWN:
        return f"{'+' if share > 0 else '-'}<{SMALLEST_SHOWN:.2%}"
    return f"{share:+.2%}" if share else "0"


def _total(metric: Metric, rows: Sequence[Row]) -> Total:
    shares = sorted(abs(row.pair.share) for row in rows)
    worst = max(rows, key=lambda row: abs(row.pair.share))
    return Total(
        metric=metric,
        workloads=len(rows),
        equal=sum(row.pair.difference_bytes == 0 for row in rows),
        median_share=shares[math.ceil(0.5 * len(shares)) - 1],
        p95_share=shares[math.ceil(0.95 * len(shares)) - 1],
        worst_share=worst.pair.share,
        worst_workload=worst.workload,
    )
