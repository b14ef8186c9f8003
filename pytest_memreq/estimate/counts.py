"""Parameter counts between text and numbers: `"175B"`, `"61M"`, `"124439808"`."""

from __future__ import annotations

import re
from decimal import Decimal

from pytest_memreq.errors import MemreqError

SUFFIXES = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
MAX_COUNT = 10**15
COUNT_FORMS = '"175B", "1.3B", "61M" or a whole number above 0'

_COUNT = re.compile(r"([0-9]{1,30}(?:\.[0-9]{1,30})?)[ ]?([KMBT]?)", re.IGNORECASE)


def parse_count(count: int | str) -> int:
    """Parameters of a count, its suffix a power of 1000 in either case.

    Raises MemreqError for anything but a whole number from 1 to a thousand trillion.
    """
    number = _number(count)
    if number is None or not 0 < number <= MAX_COUNT or number != int(number):
        raise MemreqError(f"{_shown(count)} is not a parameter count; write {COUNT_FORMS}")
    return int(number)


def _number(count: int | str) -> int | Decimal | None:
    if isinstance(count, bool):
        return None
    if isinstance(count, int):
        return count
    match = _COUNT.fullmatch(count.strip())
    return None if match is None else Decimal(match[1]) * SUFFIXES[match[2].upper()]


def _shown(count: int | str) -> str:
    if isinstance(count, int) and abs(count) > MAX_COUNT:
        return "a number beyond 1000T"  # repr of a huge int can itself raise
    text = ascii(count)
    return text if len(text) <= 60 else f"{text[:57]}..."
