"""`torch.cuda.memory_stats()` of a pretended card: what is known, and an error for the rest.

A figure that is left out would be read as 0 by `.get(name, 0)`, and pass for one.
"""

from __future__ import annotations

import re
from typing import Any

from pytest_memreq.errors import SimulationError
from pytest_memreq.simulate.ledger import Ledger

# Names of torch/cuda/memory.py, memory_stats.
OF_TORCH = re.compile(
    r"[a-z_]+\.(all|small_pool|large_pool)\.(current|peak|allocated|freed)|num_\w+"
)


class Statistics(dict[str, int]):
    """Raises SimulationError for a statistic of torch that is not simulated."""

    def __missing__(self, name: str) -> int:
        """Of `[name]`."""
        if OF_TORCH.fullmatch(name):
            raise SimulationError(
                f"torch.cuda.memory_stats()[{name!r}] is not simulated; there are {', '.join(self)}"
            )
        raise KeyError(name)

    def get(self, name: str, default: Any = None) -> Any:
        """As a dict's, but for what torch has and a simulation has not."""
        return self[name] if name in self or OF_TORCH.fullmatch(name) else default


def statistics_of(ledger: Ledger) -> Statistics:
    """As they are now; peaks since the code last reset them."""
    allocator = ledger.allocator
    pairs = {
        "allocated": (ledger.live_bytes, ledger.peak_bytes),
        "reserved": (ledger.reserved_bytes, ledger.peak_reserved_bytes),
        "active": (allocator.active_bytes, allocator.peak_active_bytes),
        "requested": (allocator.requested_bytes, allocator.peak_requested_bytes),
        "inactive_split": (allocator.inactive_split_bytes, allocator.peak_inactive_split_bytes),
    }
    sizes = {
        f"{metric}_bytes.all.{what}": size
        for metric, pair in pairs.items()
        for what, size in zip(("current", "peak"), pair, strict=True)
    }
    return Statistics(
        {**sizes, "num_alloc_retries": allocator.retries, "num_ooms": allocator.failures}
    )
