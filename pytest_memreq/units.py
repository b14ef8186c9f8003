"""Sizes between text and bytes: `"12 GiB"` and `"80%"` to numbers and back.

No other module knows a unit's name.
"""

from __future__ import annotations

import re
from decimal import Decimal

from pytest_memreq.errors import MemreqError

UNIT_BYTES = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
PRINTED_UNITS = ("TiB", "GiB", "MiB", "KiB")
MAX_BYTES = 2**63 - 1
SIZE_FORMS = '"12 GiB", "500 MB" or a whole number of bytes'
HUGE = "a number outside 0 to 2^63"
LIMIT_FORMS = f'{SIZE_FORMS}, or a share of the card like "80%"'

# [0-9], not \d: other scripts' digits look like numbers to a reader and are most often a mistake.
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)[ ]?([A-Za-z]*)")
_SHARE = re.compile(r"([0-9]+(?:\.[0-9]+)?)[ ]?%")


def parse_size(size: str | int) -> int:
    """Bytes of a size such as `"12 GiB"`, `"1.5GB"` or `12884901888`, a fraction of a byte cut off.

    `GiB` is 2^30 and `GB` is 10^9. Raises MemreqError for anything else.
    """
    if isinstance(size, int) and not isinstance(size, bool):
        return _in_range(size, size)
    match = _SIZE.fullmatch(size.strip()) if isinstance(size, str) else None
    if match is None:
        raise _not_a_size(size)
    number, unit = match.groups()
    if unit == "" and "." not in number:
        return _in_range(_decimal(number, size), size)
    if unit not in UNIT_BYTES:
        raise _not_a_size(size)
    return _in_range(_decimal(number, size) * UNIT_BYTES[unit], size)


def parse_limit(limit: str | int) -> int | float:
    """A limit: bytes as an int, or a share of the card as a float above 0 and up to 1."""
    match = _SHARE.fullmatch(limit.strip()) if isinstance(limit, str) else None
    if match is None:
        try:
            return parse_size(limit)
        except MemreqError:
            raise MemreqError(f"{as_given(limit)} is not a limit; write {LIMIT_FORMS}") from None
    share = float(match[1]) / 100
    if not 0 < share <= 1:
        raise MemreqError(
            f"{as_given(limit)} is not a share of a card; write more than 0% and at most 100%"
        )
    return share


def format_size(size_bytes: int) -> str:
    """A size for people: GiB and its kin with two decimals, whole bytes below 1 KiB."""
    magnitude = abs(size_bytes)
    for unit in PRINTED_UNITS:
        if magnitude >= UNIT_BYTES[unit]:
            return f"{size_bytes / UNIT_BYTES[unit]:.2f} {unit}"
    return f"{size_bytes} B"


def format_limit(limit: int | float) -> str:
    """A limit as it would be written: `"12.00 GiB"`, or `"80%"` for a share."""
    return f"{limit * 100:g}%" if isinstance(limit, float) else format_size(limit)


def _decimal(digits: str, given: object) -> Decimal:
    # int() refuses more than 4,300 digits with a ValueError; nothing that long is a size anyway.
    if len(digits) > 40:
        raise _not_a_size(given)
    return Decimal(digits)


def _in_range(size_bytes: int | Decimal, given: object) -> int:
    if not 0 <= size_bytes <= MAX_BYTES:
        raise _not_a_size(given)
    return int(size_bytes)


def _not_a_size(given: object) -> MemreqError:
    return MemreqError(f"{as_given(given)} is not a size; write {SIZE_FORMS}")


def as_given(given: object) -> str:
    """What somebody gave, for a message: short, on one line, in ASCII."""
    if isinstance(given, int) and abs(given) > MAX_BYTES:
        return HUGE
    try:
        text = ascii(given)
    except ValueError:  # within it is an int of more digits than Python writes
        return HUGE
    return text if len(text) <= 60 else f"{text[:57]}..."
