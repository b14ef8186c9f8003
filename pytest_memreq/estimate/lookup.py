"""Rows of tables by the name that a user wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pytest_memreq.errors import MemreqError

Row = TypeVar("Row")


def row_of(table: Mapping[str, Row], what: str, name: str) -> Row:
    """The row of that name; MemreqError names the rows there are."""
    if not isinstance(name, str) or name not in table:
        known = ", ".join(table)
        raise MemreqError(f"{what}={name!r} is not known; write one of {known}")
    return table[name]


def check_count(what: str, value: int, least: int = 1) -> None:
    """Raise MemreqError unless the value is a whole number, `least` or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise MemreqError(f"{what}={value!r} is not a whole number of {least} or more")


def check_divides(what: str, amount: int, by: str, degree: int, instead: str = "") -> None:
    """Raise MemreqError unless the degree divides the amount."""
    if amount % degree:
        hint = f"; {instead}" if instead else ""
        raise MemreqError(f"{what}={amount} does not divide by {by}={degree}{hint}")
