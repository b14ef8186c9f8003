"""What a test may need, from a marker, a setting or an option."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

from pytest_memreq.errors import MemreqError
from pytest_memreq.requirement import METRICS, Metric
from pytest_memreq.units import LIMIT_FORMS, parse_limit

Limit = int | float  # bytes, or a share of the card in (0, 1]

MARKER_FORM = f'max_gpu_memory("12 GiB"), its limit {LIMIT_FORMS}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A limit for each metric, None where there is none; `gpu` is the card that shares refer to."""

    requested: Limit | None = None
    allocated: Limit | None = None
    reserved: Limit | None = None
    device: Limit | None = None
    gpu: str | None = None

    def of(self, metric: Metric) -> Limit | None:
        """The limit of one metric."""
        limit: Limit | None = getattr(self, metric)
        return limit

    @property
    def is_empty(self) -> bool:
        """True where no metric has a limit."""
        return all(self.of(metric) is None for metric in METRICS)

    def over(self, farther: Budget) -> Budget:
        """This budget, and `farther` for all that it leaves open: the nearest wins each metric."""
        return replace(
            farther,
            **{
                field.name: value
                for field in fields(Budget)
                if (value := getattr(self, field.name)) is not None
            },
        )

    def in_bytes(self, card_bytes: int | None) -> Budget:
        """The same with shares turned into bytes of a card of `card_bytes`, rounded down.

        Raises MemreqError for a share where the card's capacity is not known.
        """
        limits = {metric: self.of(metric) for metric in METRICS}
        return Budget(
            gpu=self.gpu,
            **{metric: _limit_bytes(limit, card_bytes) for metric, limit in limits.items()},
        )


NO_BUDGET = Budget()


def parse_marker(
    arguments: Sequence[object], keywords: Mapping[str, object], *, where: str
) -> Budget:
    """The budget of one `max_gpu_memory` marker; `where` names it in errors.

    Raises MemreqError for a bad limit, an unknown keyword, or `allocated` given twice.
    """
    if len(arguments) > 1:
        raise MemreqError(f"{where}: {len(arguments)} limits given; write {MARKER_FORM}")
    given = dict(keywords)
    if arguments and given.get("allocated") is not None:
        raise MemreqError(f"{where}: the first limit is that of allocated; give it once")
    if arguments:
        given["allocated"] = arguments[0]
    elif "limit" in given:
        given["allocated"] = given.pop("limit")
    return parse_budget(given, where=where)


def parse_budget(given: Mapping[str, object], *, where: str) -> Budget:
    """A budget from `{"allocated": "12 GiB", "gpu": ...}`; keys are the fields of Budget."""
    known = [field.name for field in fields(Budget)]
    for name in given:
        if name not in known:
            raise MemreqError(f"{where}: unknown {name!r}; known are {', '.join(known)}")
    gpu = given.get("gpu")
    if gpu is not None and not isinstance(gpu, str):
        raise MemreqError(f'{where}: gpu={gpu!r} is not a card\'s name; write gpu="NVIDIA A10G"')
    limits = {metric: _parse(given.get(metric), f"{where}, {metric}") for metric in METRICS}
    return Budget(gpu=gpu, **limits)


def _parse(given: object, where: str) -> Limit | None:
    if given is None:
        return None
    try:
        return parse_limit(given)  # type: ignore[arg-type]  # whatever a user wrote; it refuses the rest
    except MemreqError as error:
        raise MemreqError(f"{where}: {error}") from None


def _limit_bytes(limit: Limit | None, card_bytes: int | None) -> int | None:
    if not isinstance(limit, float):
        return limit
    if card_bytes is None:
        raise MemreqError(
            f"a budget of {limit:.0%} of the card, whose capacity is not known; "
            'name a card (gpu="NVIDIA A10G") or write a size'
        )
    return int(limit * card_bytes)
