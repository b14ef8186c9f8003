"""The largest of something that fits: a batch, a sequence, a number of parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pytest_memreq.errors import MemreqError

LARGEST = 10**15


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """The largest value that fits and what it needs, or the least value where none does."""

    value: int
    needed_bytes: int
    budget_bytes: int

    @property
    def fits(self) -> bool:
        """False where not even the least value fits."""
        return self.needed_bytes <= self.budget_bytes

    @property
    def spare_bytes(self) -> int:
        """What is left of the budget."""
        return self.budget_bytes - self.needed_bytes


def solve(
    needs: Callable[[int], int], budget_bytes: int, *, step: int = 1, largest: int = LARGEST
) -> Solution:
    """The largest multiple of `step`, up to `largest`, whose `needs` in bytes fit the budget.

    `needs` must not fall as its argument grows. It is asked about 2 log2 of the answer times: first
    at powers of two, then between the last two. Raises MemreqError where even `largest` fits, for
    then what is sought is not what the budget limits.
    """
    most = largest // step
    if most < 1:
        raise MemreqError(f"nothing to solve for: the largest is {largest}, the step {step}")
    low, high = 0, 1
    while high <= most and needs(high * step) <= budget_bytes:
        low, high = high, high * 2
    if low > 0 and high > most:
        high = most + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if needs(middle * step) <= budget_bytes else (low, middle)
    if low == most and largest == LARGEST:
        raise MemreqError("any number fits the budget; what is sought does not change the need")
    value = max(low, 1) * step
    return Solution(value=value, needed_bytes=needs(value), budget_bytes=budget_bytes)
