"""How far a figure may move from its baseline before it counts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from functools import reduce
from typing import Literal

from pytest_memreq.errors import MemreqError
from pytest_memreq.gate.globs import matches
from pytest_memreq.units import as_given, format_size, parse_size

Improved = Literal["warn", "fail"]
IMPROVED: tuple[Improved, ...] = ("warn", "fail")
FORM = '"1 %, 2 MiB", "2%", "4 MiB" or 0'
TABLE_FORM = '{percent = 1, bytes = "2 MiB", improved = "fail"}'

_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)[ ]?%")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """Per cent of the baseline and bytes: a figure has moved where both are exceeded.

    Both are None where nothing was said of them, and `improved` where nothing was of that: whether
    a test that needs less than its baseline and tolerance fails, or warns.
    """

    percent: Decimal | None = None
    bytes: int | None = None
    improved: Improved | None = None

    def over(self, farther: Tolerance) -> Tolerance:
        """This tolerance, and `farther` for what it leaves open."""
        near = farther if self.percent is None else self
        return replace(near, improved=self.improved or farther.improved)

    def is_exceeded(self, old_bytes: int, new_bytes: int) -> bool:
        """True where the new figure is too far from the old one, above or below it."""
        moved_bytes = abs(new_bytes - old_bytes)
        percent = Fraction(self.percent or 0)  # a float would round where it is just reached
        return moved_bytes > (self.bytes or 0) and moved_bytes * 100 > percent * old_bytes

    def __str__(self) -> str:
        """As it is written: `1 %, 2.00 MiB`."""
        return f"{(self.percent or Decimal(0)).normalize():f} %, {format_size(self.bytes or 0)}"


NO_TOLERANCE = Tolerance()
OF_SIMULATED = Tolerance(percent=Decimal(0), bytes=0, improved="warn")
OF_MEASURED = Tolerance(percent=Decimal(1), bytes=2 * 2**20, improved="warn")


def parse_tolerance(given: object, where: str) -> Tolerance:
    """A tolerance from text, a number of bytes, or a table; `where` names it in errors.

    Of per cent and bytes, the one that is not given is 0, so that the other alone decides. Raises
    MemreqError for anything else.
    """
    if isinstance(given, Mapping):
        return _of_table(given, where)
    if isinstance(given, str):
        return _of_text(given, where)
    if isinstance(given, int) and not isinstance(given, bool):
        return Tolerance(percent=Decimal(0), bytes=_size(given, where))
    raise _refusal(given, where)


def tolerance_for(
    nodeid: str,
    *,
    marker: Tolerance = NO_TOLERANCE,
    globs: Sequence[tuple[str, Tolerance]] = (),
    default: Tolerance = NO_TOLERANCE,
    built_in: Tolerance,
) -> Tolerance:
    """A test's tolerance: its marker's, then that of the first glob that matches, then the default.

    `built_in` has all that none of them says.
    """
    of_globs = [tolerance for glob, tolerance in globs if matches(nodeid, glob)]
    return reduce(Tolerance.over, [marker, *of_globs, default, built_in])


def _of_text(given: str, where: str) -> Tolerance:
    percents: list[Decimal] = []
    sizes: list[int] = []
    parts = [part.strip() for part in given.split(",")]
    if len(parts) > 1 and any(part.isdecimal() for part in parts):
        raise _refusal(given, where)  # "1,5 %" is not 1 byte and 5 %
    for part in parts:
        match = _PERCENT.fullmatch(part)
        if match is None:
            sizes.append(_size(part, where, given))
        else:
            percents.append(_percent(Decimal(match[1]), given, where))
    if len(percents) > 1 or len(sizes) > 1:
        raise _refusal(given, where)
    return Tolerance(percent=(percents or [Decimal(0)])[0], bytes=(sizes or [0])[0])


def _of_table(given: Mapping[object, object], where: str) -> Tolerance:
    if not given:
        raise MemreqError(f"{where}: {{}} says nothing; write {TABLE_FORM}")
    for name in given:
        if name not in ("percent", "bytes", "improved"):
            raise MemreqError(f"{where}: unknown {name!a}; write {TABLE_FORM}")
    improved = given.get("improved")
    if improved not in (None, *IMPROVED):
        raise MemreqError(f"{where}: improved = {as_given(improved)} is not one of warn, fail")
    said = NO_TOLERANCE
    if "percent" in given or "bytes" in given:
        percent = _percent(given.get("percent", 0), given.get("percent"), where)
        size = _size(given.get("bytes", 0), f"{where}, bytes")
        said = Tolerance(percent=percent, bytes=size)
    return replace(said, improved=improved)


def _percent(number: object, given: object, where: str) -> Decimal:
    if isinstance(number, bool) or not isinstance(number, (int, float, Decimal)):
        raise MemreqError(
            f"{where}: percent = {as_given(given)} is not a number; write {TABLE_FORM}"
        )
    if not 0 <= number <= 100:  # nor is NaN
        raise MemreqError(f"{where}: {as_given(given)} is not from 0 to 100 %")
    return Decimal(str(number))


def _size(size: object, where: str, given: object = None) -> int:
    try:
        return parse_size(size)  # type: ignore[arg-type]  # whatever a user wrote; it refuses the rest
    except MemreqError as error:
        if given is not None:
            raise _refusal(given, where) from None
        raise MemreqError(f"{where}: {error}") from None


def _refusal(given: object, where: str) -> MemreqError:
    return MemreqError(f"{where}: {as_given(given)} is not a tolerance; write {FORM}")
