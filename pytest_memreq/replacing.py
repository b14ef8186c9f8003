"""Names replaced for a while, and put back exactly as they were."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

_ABSENT = object()

Replacement = tuple[Any, str, Any]  # owner, name, value


@contextmanager
def replaced(replacements: Iterable[Replacement]) -> Iterator[list[Replacement]]:
    """Set each name of each owner, undo all in reverse order on leaving.

    A name that its owner had only inherited is deleted again, so that nothing shadows the parent.
    Gives what would undo it: replacements too, within which all is as it was before.
    """
    undo: list[Replacement] = []
    try:
        for owner, name, value in replacements:
            undo.insert(0, (owner, name, vars(owner).get(name, _ABSENT)))
            _set(owner, name, value)
        yield undo
    finally:
        for change in undo:
            _set(*change)


def _set(owner: Any, name: str, value: Any) -> None:
    if value is _ABSENT:
        delattr(owner, name)
    else:
        setattr(owner, name, value)
