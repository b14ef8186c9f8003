"""Waiting for other ranks: until each has come to its end, died, or been silent for too long."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pytest_memreq.plugin.living import is_held
from pytest_memreq.plugin.store import Store
from pytest_memreq.reports.files import read_whole
from pytest_memreq.reports.journal import LAST_BYTES, has_finished
from pytest_memreq.reports.ranks import RankPart
from pytest_memreq.reports.reading import MAX_REPORT_BYTES
from pytest_memreq.reports.restoring import part_of
from pytest_memreq.results import Results

LOOK_SECONDS = 0.05
PATIENCE_SECONDS = 2.0  # before somebody who looks on is told
State = Literal["finished", "running", "dead", "absent"]
ENDED = ("finished", "dead")
# Why what a rank says is not all, by the state in which it was left.
REASONS: Mapping[State, str] = {
    "finished": "",
    "dead": "its process died",
    "absent": "it left nothing within {} s (--memreq-rank-timeout)",
    "running": "it said nothing for {} s (--memreq-rank-timeout)",
}


@dataclass(frozen=True, slots=True)
class Source:
    """Where a rank's journal is: in a file, or, from another machine, in the store."""

    rank: int
    path: Path
    store: Store | None

    def state(self) -> State:
        """What the rank is about. Raises MemreqError where the store is gone."""
        if not self.path.exists():
            is_sent = self.store is not None and self.store.has(self.rank)
            return "finished" if is_sent else "absent"
        is_alive = is_held(self.path)  # before its end is looked at: it may end in between
        if has_finished(_end(self.path)):
            return "finished"
        return "running" if is_alive else "dead"

    def size_bytes(self) -> int:
        """Of the file, which grows while the rank has something to say."""
        return _size(self.path)

    def part(self, missing: str) -> RankPart:
        """What it says; `missing` is why that is not all, "" where it is."""
        if self.path.exists():
            content = read_whole(self.path, MAX_REPORT_BYTES)
        elif missing or self.store is None:
            return RankPart(rank=self.rank, results=Results(status="incomplete"), missing=missing)
        else:
            content = self.store.fetch(self.rank)
        return part_of(content, f"journal of rank {self.rank}", missing)[0]


def wait_for(
    sources: Sequence[Source], timeout_seconds: int, tell: Callable[[list[int]], None]
) -> dict[int, str]:
    """Why what a rank says is not all, "" where it is; by rank, once each is known."""
    pending, reasons = {source.rank: source for source in sources}, dict[int, str]()
    sizes: dict[int, int] = {}
    begun = since = time.monotonic()
    while pending:
        now = {rank: source.size_bytes() for rank, source in pending.items()}
        if now != sizes:
            sizes, since = now, time.monotonic()
        states = {rank: source.state() for rank, source in pending.items()}
        is_over = time.monotonic() - since >= timeout_seconds
        for rank, state in states.items():
            if state in ENDED or is_over:
                reasons[rank] = REASONS[state].format(timeout_seconds)
                del pending[rank]
        if pending and time.monotonic() - begun > PATIENCE_SECONDS:
            tell(sorted(pending))
            begun = float("inf")
        time.sleep(LOOK_SECONDS if pending else 0)
    return reasons


def _end(path: Path) -> bytes:
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(max(0, _size(path) - LAST_BYTES - 1))
        return file.read()
    return b""


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0
