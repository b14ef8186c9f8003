"""The largest batch whose step fits, found by simulating steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pytest_memreq.bisection import Solution, solve
from pytest_memreq.errors import MemreqError
from pytest_memreq.requirement import Metric
from pytest_memreq.simulate import simulate
from pytest_memreq.simulate.cards import DEFAULT_CARD, find_card
from pytest_memreq.units import format_limit, parse_limit

LARGEST_BATCH = 2**24
# A step that would not fit the card is simulated to its end all the same, to know what it needs.
NO_LIMIT_BYTES = 2**60

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSolution(Solution):
    """As Solution, of batch sizes; `trials` are (batch, bytes at the peak), smallest batch first.

    `is_monotone` is False where a larger batch needed less than a smaller one: then a batch between
    those that were tried may fit as well, or not.
    """

    metric: Metric
    trials: tuple[tuple[int, int], ...]

    @property
    def is_monotone(self) -> bool:
        """True where no larger batch needed less."""
        sizes = [size for _, size in self.trials]
        return sizes == sorted(sizes)


def max_batch(
    step_factory: Callable[[int], Callable[[], Any]],
    budget: str | int,
    *,
    gpu: str = DEFAULT_CARD,
    metric: Metric = "allocated",
    largest: int = LARGEST_BATCH,
    allocator: str | None = None,
    progress: Progress | None = None,
) -> BatchSolution:
    """The largest batch, up to `largest`, with which a step stays within the budget.

    `step_factory(batch)` gives a function without arguments that does the step, models and inputs
    made within either; both run on the pretended card. The budget is a size or a share of the
    card; `progress` is called with each batch that was simulated and its peak. Asked about
    2 log2 of the answer times. Raises MemreqError where no function is given, or where any batch
    fits.
    """
    if not callable(step_factory):
        raise MemreqError(f"step_factory={step_factory!r} is no function; give one of a batch size")
    limit = parse_limit(budget)
    card_bytes = find_card(gpu).capacity_bytes
    budget_bytes = limit if isinstance(limit, int) else int(card_bytes * limit)
    trials: dict[int, int] = {}

    def needs(batch: int) -> int:
        if batch not in trials:
            trials[batch] = _peak_of(step_factory, batch, gpu, metric, allocator)
            if progress is not None:
                progress(batch, trials[batch])
        return trials[batch]

    found = solve(needs, budget_bytes, largest=largest)
    if found.value == largest == LARGEST_BATCH:
        raise MemreqError(f"any batch fits {format_limit(limit)}; the step does not depend on it")
    return BatchSolution(
        value=found.value,
        needed_bytes=found.needed_bytes,
        budget_bytes=budget_bytes,
        metric=metric,
        trials=tuple(sorted(trials.items())),
    )


def _peak_of(
    step_factory: Callable[[int], Any], batch: int, gpu: str, metric: Metric, allocator: str | None
) -> int:
    def step() -> None:
        made = step_factory(batch)
        if not callable(made):
            raise MemreqError(
                f"step_factory({batch}) gave a {type(made).__name__}; it must give a function "
                "that does the step"
            )
        made()

    peak = simulate(step, gpu=gpu, allocator=allocator, capacity=NO_LIMIT_BYTES).peak.of(metric)
    if peak is None:
        raise MemreqError(f"{metric} is not simulated; solve for requested, allocated or reserved")
    return peak
