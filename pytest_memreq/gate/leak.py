"""What a test may leave behind each time it runs, and the verdict on what it left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_memreq.errors import MemreqError
from pytest_memreq.gate.verdict import Verdict, figure
from pytest_memreq.units import SIZE_FORMS, as_given, parse_size

FORM = f'max_gpu_leak("0 B"), its limit {SIZE_FORMS}'


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakLimit:
    """Bytes that each of `repeats` runs may leave, after `warmup` runs that may leave anything."""

    limit_bytes: int
    warmup: int = 1
    repeats: int = 3


def parse_leak(
    arguments: Sequence[object], keywords: Mapping[str, object], where: str
) -> LeakLimit:
    """The limit of one `max_gpu_leak` marker; MemreqError for anything else than it takes."""
    given = dict(keywords)
    if len(arguments) != 1 and not (not arguments and "limit" in given):
        raise MemreqError(f"{where}: {len(arguments)} limits given; write {FORM}")
    limit = arguments[0] if arguments else given.pop("limit")
    counts = {name: given.pop(name) for name in ("warmup", "repeats") if name in given}
    if given:
        raise MemreqError(f"{where}: unknown {next(iter(given))!r}; known are warmup, repeats")
    for name, count in counts.items():
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= 1000:
            raise MemreqError(f"{where}: {name}={as_given(count)} is not a number from 1 to 1000")
    return LeakLimit(limit_bytes=_size(limit, where), **counts)  # type: ignore[arg-type]  # ints now


def _size(limit: object, where: str) -> int:
    try:
        return parse_size(limit)  # type: ignore[arg-type]  # whatever a user wrote; it refuses the rest
    except MemreqError as error:
        raise MemreqError(f"{where}: {error}") from None


def judge_leak(growths: Sequence[int], limit: LeakLimit) -> Verdict:
    """Hold what each repeat left against the limit: on average, so that every byte counts."""
    total = sum(growths)
    each = ", ".join(f"{growth:+,}" for growth in growths)
    if total <= limit.limit_bytes * len(growths):
        return Verdict(word="within", reason=f"leaks nothing over its limit (bytes: {each})")
    per_run = -(-total // len(growths))
    return Verdict(
        word="over",
        reason=f"leaks {figure(per_run)} each time it runs, over the limit of "
        f"{figure(limit.limit_bytes)} (bytes left by {len(growths)} repeats: {each})",
    )
