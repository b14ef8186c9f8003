"""Names replaced for a while, and put back exactly as they were."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

_ABSENT = object()

Replacement = tuple[Any, str, Any]  # owner, name, value


@contextmanager
def replaced(replacements: Iterable[Replacement]) -> Iterator[None]:
    """Set each name of each owner, undo all in reverse order on leaving.

    A name that its owner had only inherited is deleted again, so that nothing shadows the parent.
    """
    before: list[Replacement] = []
    try:
        for owner, name, value in replacements:
            before.append((owner, name, vars(owner).get(name, _ABSENT)))
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in reversed(before):
            if value is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, value)
