"""The user's own step, run by a command: whatever it raises is said in one line."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from pytest_memreq.errors import MemreqError, SimulationError


@contextmanager
def steps_of(name: str) -> Iterator[None]:
    """Around what `name` names. Raises MemreqError, saying what was raised in it and where.

    What could not be simulated, and what we say ourselves, passes.
    """
    try:
        yield
    except (MemreqError, SimulationError):
        raise
    except (Exception, SystemExit) as error:  # the user's step runs here and may raise anything
        raise MemreqError(f"{name} raised {_described(error)}") from error


def _described(error: BaseException) -> str:
    """What was raised, and at which line of the user's, or of whoever raised it."""
    from pytest_memreq.simulate.attribution import is_library  # imports torch

    said = " ".join(str(error).split()) or "no message"
    frames = traceback.extract_tb(error.__traceback__)
    of_user = [frame for frame in frames if not is_library(frame.filename)]
    where = (of_user or frames)[-1]
    return f"{type(error).__name__} at {where.filename}:{where.lineno}: {said}"
