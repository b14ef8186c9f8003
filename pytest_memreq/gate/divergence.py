"""How far a simulation is from what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from pytest_memreq.gate.tolerance import Tolerance
from pytest_memreq.gate.verdict import figure
from pytest_memreq.requirement import METRICS, Metric, Peak

BOUND = Tolerance(percent=Decimal(5), bytes=2 * 2**20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A metric, simulated and measured; `is_beyond` the bound."""

    metric: Metric
    simulated_bytes: int
    measured_bytes: int
    is_beyond: bool

    @property
    def difference_bytes(self) -> int:
        """Below 0 where the simulation is too low."""
        return self.simulated_bytes - self.measured_bytes

    @property
    def share(self) -> float:
        """The difference as a share of what was measured."""
        return self.difference_bytes / self.measured_bytes if self.measured_bytes else 0.0


def pairs(simulated: Peak, measured: Peak, bound: Tolerance) -> Iterator[Pair]:
    """Every metric that both know."""
    for metric in METRICS:
        size, real = simulated.of(metric), measured.of(metric)
        if size is not None and real is not None:
            yield Pair(
                metric=metric,
                simulated_bytes=size,
                measured_bytes=real,
                is_beyond=bound.is_exceeded(real, size),
            )


def beyond(simulated: Peak, measured: Peak, bound: Tolerance) -> tuple[str, ...]:
    """A line a metric that is further from what was measured than the bound lets it be."""
    return tuple(
        f"{pair.metric} was simulated as {figure(pair.simulated_bytes)} and measured as "
        f"{figure(pair.measured_bytes)}, {pair.difference_bytes:+,} bytes apart, which is more "
        f"than {bound}"
        for pair in pairs(simulated, measured, bound)
        if pair.is_beyond
    )
