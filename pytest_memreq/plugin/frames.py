"""What a failed test raised, and its frames, which would hold tensors until the next failure."""

from __future__ import annotations

import contextlib
import inspect
import traceback
from types import TracebackType

import pytest

OUT_OF_MEMORY = "OutOfMemoryError"
SUSPENDABLE = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def clear_frames(error: BaseException) -> None:
    """Let go of the local names in the traceback of an error and of those it came from."""
    waiting: list[BaseException] = [error]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        _clear(each.__traceback__)
        group: tuple[BaseException, ...] = getattr(each, "exceptions", ())
        waiting += [e for e in (each.__cause__, each.__context__, *group) if e is not None]


def _clear(tb: TracebackType | None) -> None:
    for frame, _ in traceback.walk_tb(tb):
        if frame.f_code.co_flags & SUSPENDABLE:
            continue  # it may go on, as a fixture's does; to clear it would close it
        with contextlib.suppress(RuntimeError):  # it is still running
            frame.clear()
            # Up to Python 3.12 a frame that was asked for its names, as pytest asks every one,
            # keeps a copy, which is only brought up to date when it is asked again.
            _ = frame.f_locals


def raise_kept(item: pytest.Item) -> None:
    """Raise what the run of a unittest's test raised, which pytest keeps with it until its report.

    Else a test that failed would look as if it had come through.
    """
    __tracebackhide__ = True
    kept = getattr(item, "_excinfo", None)
    if kept:
        item._excinfo = None  # type: ignore[attr-defined]  # of pytest's TestCaseFunction
        raise kept[0].value


def is_out_of_memory(raised: BaseException | None) -> bool:
    """True for torch.OutOfMemoryError, and for what was raised because of it."""
    seen: set[int] = set()
    while raised is not None and id(raised) not in seen:
        if type(raised).__name__ == OUT_OF_MEMORY:
            return True
        seen.add(id(raised))
        raised = raised.__cause__ or raised.__context__
    return False
