"""Layouts held against a limit, and their order: what is left over, most first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pytest_memreq.bisection import solve
from pytest_memreq.estimate.formula import Setup, requirement
from pytest_memreq.estimate.transformer import Transformer
from pytest_memreq.layouts.layout import Layout

LARGEST_BATCH = 2**40


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a layout's worst rank needs of its card's `limit_bytes`, by formula and by simulation.

    `largest_batch` is by formula, 0 where not even one sample fits. `simulated_bytes` is None where
    nothing was simulated; `not_simulated` says why, where it was tried or cannot be.
    """

    layout: Layout
    limit_bytes: int
    estimated_bytes: int
    cpu_bytes: int
    largest_batch: int
    simulated_bytes: int | None = None
    not_simulated: str | None = None

    @property
    def needed_bytes(self) -> int:
        """By simulation where there is one, else by formula."""
        return self.estimated_bytes if self.simulated_bytes is None else self.simulated_bytes

    @property
    def spare_bytes(self) -> int:
        """What is left over, below 0 where it does not fit."""
        return self.limit_bytes - self.needed_bytes

    @property
    def fits(self) -> bool:
        """By simulation where there is one, else by formula."""
        return self.spare_bytes >= 0


def judge(model: Transformer, layout: Layout, setup: Setup, limit_bytes: int) -> Judged:
    """A layout by formula; the setup says all that a layout does not."""
    asked = replace(
        setup,
        parallelism=layout.parallelism,
        recompute=layout.recompute,
        batch_size=layout.batch,
    )
    needed = requirement(model, asked)
    found = solve(
        lambda batch: requirement(model, replace(asked, batch_size=batch)).total_bytes,
        limit_bytes,
        largest=LARGEST_BATCH,
    )
    return Judged(
        layout=layout,
        limit_bytes=limit_bytes,
        estimated_bytes=needed.total_bytes,
        cpu_bytes=needed.cpu_bytes,
        largest_batch=found.value if found.fits else 0,
    )


def ranked(found: Iterable[Judged]) -> tuple[Judged, ...]:
    """Those that were simulated first, then those by formula; of each, most left over first.

    A simulation has what no formula counts, so what is left over by one is not held against what is
    by the other. Equal ones keep their order.
    """
    return tuple(sorted(found, key=lambda each: (each.simulated_bytes is None, -each.spare_bytes)))


def fits(found: Sequence[Judged]) -> bool | None:
    """Whether one fits, None where it cannot be told.

    Where some were simulated they decide: if none of them fits, others that do by formula may not.
    """
    simulated = [each for each in found if each.simulated_bytes is not None]
    if any(each.fits for each in simulated):
        return True
    if any(each.fits for each in found):
        return None if simulated else True
    return False
