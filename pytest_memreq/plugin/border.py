"""The border to pytest's last hooks, across which nothing of ours is raised.

What comes out of `pytest_sessionfinish` or `pytest_terminal_summary` takes the summary of the
tests' failures with it.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_memreq.errors import MemreqError
from pytest_memreq.plugin.purpose import Original
from pytest_memreq.reports.text import visible

BUG = "this is a bug of memreq, unless a test replaced part of Python and left it so"


class Problems:
    """What fails the run, a line each, told once: in the summary, or where there is none after it.

    In a fork of the process that it was made in, `is_ours` is False: it has no say in the run.
    """

    def __init__(self) -> None:
        self._lines: dict[str, None] = {}
        self._told = 0
        self._original = Original()

    def add(self, line: str) -> None:
        """Told once, however often it comes."""
        self._lines.setdefault(line)

    @property
    def is_empty(self) -> bool:
        """True where nothing fails the run so far."""
        return not self._lines

    @property
    def is_ours(self) -> bool:
        """True in the process that reports."""
        return self._original.is_here

    @contextmanager
    def kept(self, what: object) -> Iterator[None]:
        """Whatever is raised within is one of the problems."""
        try:
            with self.bugs_kept(what):
                yield
        except MemreqError as error:
            self.add(str(error))

    @contextmanager
    def bugs_kept(self, what: object) -> Iterator[None]:
        """The same for mistakes of ours alone; the line names `what`, and where it was raised."""
        try:
            yield
        except MemreqError:
            raise
        except BrokenPipeError:  # as with `pytest | head`
            self.add(f"{what}: could not be shown: whoever read the output has closed it")
        except Exception as error:  # noqa: BLE001 - here alone: else no failure of a test is shown
            self.add(f"{what}: {_described(error)}: {BUG}")

    def fail(self, session: pytest.Session | None) -> None:
        """The run exits with 1 if there are any and it would not have failed."""
        if self._lines and session is not None and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def untold(self) -> list[str]:
        """What was not told before, and is told now."""
        lines = [f"memreq: {line}" for line in self._lines][self._told :]
        self._told += len(lines)
        return lines

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        """The last moment to tell them."""
        if self.is_ours:
            for line in self.untold():
                print(line, file=sys.stderr)


def _described(error: Exception) -> str:
    said = visible(str(error).partition("\n")[0])
    frame, line = list(traceback.walk_tb(error.__traceback__))[-1]
    place = "/".join(Path(frame.f_code.co_filename).parts[-2:])
    return f"{type(error).__name__}{f': {said}' if said else ''} at {place}:{line}"
