"""How far a simulation is from what was measured."""

from __future__ import annotations

from decimal import Decimal

from pytest_memreq.gate.tolerance import Tolerance
from pytest_memreq.gate.verdict import figure
from pytest_memreq.requirement import METRICS, Metric, Peak

BOUND = Tolerance(percent=Decimal(5), bytes=2 * 2**20)


def beyond(simulated: Peak, measured: Peak, bound: Tolerance) -> tuple[str, ...]:
    """A line a metric that is further from what was measured than the bound lets it be."""
    pairs: list[tuple[Metric, int | None, int | None]] = [
        (metric, simulated.of(metric), measured.of(metric)) for metric in METRICS
    ]
    return tuple(
        f"{metric} was simulated as {figure(size)} and measured as {figure(real)}, "
        f"{size - real:+,} bytes apart, which is more than {bound}"
        for metric, size, real in pairs
        if size is not None and real is not None and bound.is_exceeded(real, size)
    )
