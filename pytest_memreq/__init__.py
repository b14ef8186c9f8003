"""Budgets for GPU memory: how much a piece of work needs, and a gate that holds it to that.

Importing this imports no torch.
"""

from pytest_memreq.errors import MemoryBudgetExceeded, MemoryRegressed, MemreqError
from pytest_memreq.estimate import Parallelism, Solution, Transformer, estimate, solve
from pytest_memreq.gate.budget import Budget
from pytest_memreq.requirement import Breakdown, Requirement
from pytest_memreq.simulate import Simulation, simulate
from pytest_memreq.simulate.search import BatchSolution, max_batch
from pytest_memreq.units import format_size, parse_size

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
