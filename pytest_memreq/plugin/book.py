"""The claims of all workers of a run, in one file: whoever changes it locks it.

Each has a record, and locks that as long as it lives, so that the kernel strikes out the claims of
one that has ended, however it did: what it was writing just then is not read either. The locks are
those of POSIX, as in `living`: a fork has none of them. Times are those of the processes of one
machine.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from pytest_memreq.errors import MemreqError
from pytest_memreq.packing.ledger import Claim
from pytest_memreq.packing.record import RECORD_BYTES, from_record, to_record

if sys.platform != "win32":
    import fcntl

NAME = "rooms"
FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
# The first slot has no record: its first byte is the lock on the whole file. In the others each
# byte may be locked by a process that the record stands for: the worker, and what it started.
SLOT_BYTES = 2048
MOST_SLOTS = 4096
CHANGED = "what workers hold of the cards cannot be read: somebody else wrote {}"


class Book:
    """The file, opened once by this process: it would lose its locks by closing it again."""

    def __init__(self, directory: Path) -> None:
        """Take a free slot, with no claim. Raises MemreqError where that cannot be."""
        self.path = directory / NAME
        try:
            self._file = os.open(self.path, FLAGS, 0o600)
            with self._locked():
                self.slot = next(n for n in range(1, MOST_SLOTS) if self._is_free(n, keep=True))
                self._write(Claim())
        except (OSError, StopIteration) as error:
            raise MemreqError(f"{self.path}: {error or 'has no slot left'}") from None

    @contextlib.contextmanager
    def turn(self) -> Iterator[Turn]:
        """Within it nobody else reads or writes. Raises MemreqError, also for what is no claim."""
        try:
            with self._locked():
                yield Turn(self, self._claims())
        except OSError as error:
            raise MemreqError(f"{self.path}: {error.strerror or error}") from None

    def write(self, claim: Claim) -> None:
        """What this process claims from now on. Raises MemreqError where it cannot be written."""
        try:
            with self._locked():
                self._write(claim)
        except OSError as error:
            raise MemreqError(f"{self.path}: {error.strerror or error}") from None

    def _claims(self) -> tuple[Claim, ...]:
        """Of all others that live."""
        size = os.fstat(self._file).st_size
        slots = range(1, -(-size // SLOT_BYTES))
        living = [n for n in slots if n != self.slot and not self._is_free(n)]
        return tuple(map(self._read, living))

    def _read(self, slot: int) -> Claim:
        claim = from_record(os.pread(self._file, RECORD_BYTES, slot * SLOT_BYTES))
        if claim is None:
            raise MemreqError(CHANGED.format(self.path))
        return claim

    def _write(self, claim: Claim) -> None:
        os.pwrite(self._file, to_record(claim), self.slot * SLOT_BYTES)

    def _is_free(self, slot: int, *, keep: bool = False) -> bool:
        """True where nobody of a slot lives; it is this process's then, if it is to be kept."""
        length, start = SLOT_BYTES, slot * SLOT_BYTES
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
        except OSError:
            return False
        if keep:  # what it starts will lock the other bytes
            length, start = length - 1, start + 1
        fcntl.lockf(self._file, fcntl.LOCK_UN, length, start)
        return True

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1)


class Turn:
    """The claims of others, and the chance to write one's own."""

    def __init__(self, book: Book, others: tuple[Claim, ...]) -> None:
        self._write = book._write
        self.others = others

    def write(self, claim: Claim) -> None:
        """What this process claims from now on."""
        self._write(claim)


def stand_for(path: Path, slot: int, number: int) -> int:
    """Keep a slot's claim alive as long as this process lives, which a worker started.

    `number` is its place among those that the worker started. The file stays open; OSError where it
    cannot be.
    """
    file = os.open(path, FLAGS & ~os.O_CREAT)
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot * SLOT_BYTES + 1 + number)
    return file
