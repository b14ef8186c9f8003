"""How far off figures are, summed up: what is worst has a sign."""

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Of `count` figures `exact` are equal; the rest are fractions of what is true.

    `median` and `p95` are of absolute errors, p95 the least that 95 % do not exceed; `most_over`
    and `most_under` are signed.
    """

    count: int
    exact: int
    median: float
    p95: float
    most_over: float
    most_under: float

    @property
    def cells(self) -> tuple[str, ...]:
        """For a table, see HEAD."""
        parts = (self.median, self.p95, self.most_over, self.most_under)
        return str(self.count), str(self.exact), *(percent(part) for part in parts)


HEAD = ("figures", "equal to the byte", "median error", "p95", "most over", "most under")


def errors_of(pairs: Iterable[tuple[int, int]]) -> Errors:
    """Of (found, true) in bytes."""
    pairs = list(pairs)
    signed = [found / true - 1 if true else float(found > 0) for found, true in pairs]
    sizes = sorted(map(abs, signed))
    return Errors(
        count=len(pairs),
        exact=sum(found == true for found, true in pairs),
        median=sizes[math.ceil(0.5 * len(sizes)) - 1],
        p95=sizes[math.ceil(0.95 * len(sizes)) - 1],
        most_over=max(0.0, *signed),
        most_under=min(0.0, *signed),
    )


def percent(fraction: float) -> str:
    """Three digits after the point where it is small; 0 is nothing at all."""
    if not fraction:
        return "0"
    return f"{fraction:+.3%}" if abs(fraction) < 0.1 else f"{fraction:+.1%}"
