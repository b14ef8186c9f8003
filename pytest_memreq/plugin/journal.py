"""The journal's file, while a run goes on: one write an event, to be there whatever ends the run.

The process that reports writes it, for all workers: what they send arrives within milliseconds.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from pytest_memreq.plugin.living import hold
from pytest_memreq.plugin.purpose import Original
from pytest_memreq.plugin.ranks import ALONE, Ranks
from pytest_memreq.reports.files import failure
from pytest_memreq.reports.gathering import Event
from pytest_memreq.reports.journal import Heading, heading, line_of, name_of

FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)


class Journal:
    """Appends events; one that cannot be written ends the journal, and not the run."""

    def __init__(self, directory: Path, ranks: Ranks = ALONE) -> None:
        """Begin anew. Raises MemreqError where the directory takes no file."""
        self.problem: str | None = None
        self._path = directory / name_of(ranks.rank)
        self._original = Original()
        self._file: int | None = None
        try:
            self._path.unlink(missing_ok=True)  # the link itself, where it is one
            self._file = os.open(self._path, FLAGS, 0o666)
            hold(self._file)
            whose = Heading(rank=ranks.rank, world_size=ranks.world_size)
            os.write(self._file, heading(whose).encode())
        except OSError as error:
            raise failure(self._path, error) from None

    def write(self, event: Event) -> None:
        """Append the event, from the process that began the journal: a fork of it writes none."""
        if self._file is None or not self._original.is_here:
            return
        try:
            os.write(self._file, line_of(event).encode())
        except OSError as error:
            self.problem = f"{failure(self._path, error)}: no journal from there on"
            self.close()

    def close(self) -> None:
        """Write no more."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = None

    def remove(self) -> None:
        """The reports say it all: close the journal, and delete it."""
        self.close()
        with contextlib.suppress(OSError):  # the finished report is the one that counts
            self._path.unlink(missing_ok=True)
