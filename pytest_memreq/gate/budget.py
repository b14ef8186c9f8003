"""What a test may need, from a marker, a setting or an option."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from pytest_memreq.errors import MemreqError
from pytest_memreq.gate.tolerance import Tolerance, parse_tolerance
from pytest_memreq.requirement import METRICS, Metric
from pytest_memreq.units import LIMIT_FORMS, as_given, parse_limit

Limit = int | float  # bytes, or a share of the card in (0, 1]
PARTLY_USED_BYTES = 2 * 2**20 + 20 * 2**20
ENFORCE = ("cap",)
SWITCHES = ("isolate", "skip_too_small")
MOST_RANKS = 64  # processes on one machine; for more, simulate one rank of them

MARKER_FORM = f'max_gpu_memory("12 GiB"), its limit {LIMIT_FORMS}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A limit for each metric, None where there is none; `gpu` is the card that shares refer to.

    The rest is how the test is run: `enforce="cap"` has the allocator refuse what goes beyond,
    `isolate` runs it in a process of its own, `ranks` in as many that torch.distributed joins,
    `skip_too_small` skips it on a card with less than its limits. `tolerance` is how far it may
    move from its baseline.
    """

    requested: Limit | None = None
    allocated: Limit | None = None
    reserved: Limit | None = None
    device: Limit | None = None
    gpu: str | None = None
    enforce: str | None = None
    isolate: bool | None = None
    ranks: int | None = None
    skip_too_small: bool | None = None
    tolerance: Tolerance | None = None

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
        in_bytes: dict[str, Any] = {m: _limit_bytes(each, card_bytes) for m, each in limits.items()}
        return replace(self, **in_bytes)

    def cap_bytes(self) -> int | None:
        """The most that the allocator may hold, for a budget in bytes; None without a limit.

        It holds whole segments, one of each pool partly used, so limits on what is in them leave
        room for two (kSmallBuffer and kLargeBuffer of c10/core/CachingDeviceAllocator.h).
        """
        inner = [limit + PARTLY_USED_BYTES for limit in (self.requested, self.allocated) if limit]
        limits = [*inner, *([self.reserved] if self.reserved else [])]
        return int(min(limits)) if limits else None

    def room_bytes(self) -> tuple[int, bool] | None:
        """What is set aside for a test with this budget in bytes; None without a limit.

        By the limit on the widest metric, and whether that is all that a process has on the card.
        """
        for metric in reversed(METRICS):
            limit = self.of(metric)
            if limit is not None:
                return int(limit), metric == "device"
        return None

    def too_large_for(self, card_bytes: int | None) -> bool:
        """True for a budget in bytes that a card could not grant."""
        limits = [int(self.of(metric) or 0) for metric in METRICS]
        return card_bytes is not None and max(limits) > card_bytes


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
        raise MemreqError(
            f'{where}: gpu={as_given(gpu)} is not a card\'s name; write gpu="NVIDIA A10G"'
        )
    enforce = given.get("enforce")
    if enforce is not None and enforce not in ENFORCE:
        raise MemreqError(f'{where}: enforce={as_given(enforce)} is not known; write enforce="cap"')
    for name in SWITCHES:
        if given.get(name) not in (None, True, False):
            raise MemreqError(f"{where}: {name}={as_given(given[name])} is neither True nor False")
    ranks = given.get("ranks")
    if ranks is not None and not _is_count(ranks):
        raise MemreqError(
            f"{where}: ranks={as_given(ranks)} is not a number of processes from 2 to {MOST_RANKS}"
        )
    limits: dict[str, Any] = {
        metric: _parse(given.get(metric), f"{where}, {metric}") for metric in METRICS
    }
    rest: dict[str, Any] = {name: given.get(name) for name in ("enforce", "ranks", *SWITCHES)}
    if given.get("tolerance") is not None:
        rest["tolerance"] = parse_tolerance(given["tolerance"], f"{where}, tolerance")
    return Budget(gpu=gpu, **rest, **limits)


def _is_count(given: object) -> bool:
    return isinstance(given, int) and not isinstance(given, bool) and 2 <= given <= MOST_RANKS


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
