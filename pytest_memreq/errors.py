"""The kinds of error that a user can meet, and nothing else."""

from __future__ import annotations


class MemreqError(Exception):
    """Something given cannot be used; the message says what, where, and what would be right."""


class SimulationError(MemreqError):
    """The pretended device met a call that it cannot answer truthfully."""


class DeviceLostError(MemreqError):
    """The device answers nothing any more in this process; the message is its first."""


class MemoryBudgetExceeded(AssertionError):
    """Work needed more memory than its budget; `str()` names metric, peak, budget and excess."""


class MemoryRegressed(AssertionError):
    """Work needs more memory than its baseline and tolerance; `str()` says how much, and what."""
