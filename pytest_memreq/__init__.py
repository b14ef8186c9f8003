"""Budgets for GPU memory: how much a piece of work needs, and a gate that holds it to that.

Importing this imports no torch.
"""

from typing import TYPE_CHECKING

from pytest_memreq.errors import MemoryBudgetExceeded, MemoryRegressed, MemreqError
from pytest_memreq.estimate import estimate
from pytest_memreq.resolving import resolver
from pytest_memreq.simulate import simulate

# The rest where it is asked for: the plugin is loaded in every run, and most need none of it.
# The two functions share their names with packages, so they have to be here from the start.
if TYPE_CHECKING:
    from pytest_memreq.bisection import Solution, solve
    from pytest_memreq.estimate.parallelism import Parallelism
    from pytest_memreq.estimate.transformer import Transformer
    from pytest_memreq.gate.budget import Budget
    from pytest_memreq.requirement import Breakdown, Requirement
    from pytest_memreq.simulate import Simulation
    from pytest_memreq.simulate.search import BatchSolution, max_batch
    from pytest_memreq.units import format_size, parse_size

__getattr__ = resolver(
    __name__,
    {
        "pytest_memreq.bisection": ("Solution", "solve"),
        "pytest_memreq.estimate.parallelism": ("Parallelism",),
        "pytest_memreq.estimate.transformer": ("Transformer",),
        "pytest_memreq.gate.budget": ("Budget",),
        "pytest_memreq.requirement": ("Breakdown", "Requirement"),
        "pytest_memreq.simulate": ("Simulation",),
        "pytest_memreq.simulate.search": ("BatchSolution", "max_batch"),
        "pytest_memreq.units": ("format_size", "parse_size"),
    },
)

__all__ = [
    "BatchSolution",
    "Breakdown",
    "Budget",
    "MemoryBudgetExceeded",
    "MemoryRegressed",
    "MemreqError",
    "Parallelism",
    "Requirement",
    "Simulation",
    "Solution",
    "Transformer",
    "estimate",
    "format_size",
    "max_batch",
    "parse_size",
    "simulate",
    "solve",
]
