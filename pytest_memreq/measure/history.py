"""The breakdown of a peak on a CUDA device, from torch's memory history."""

from __future__ import annotations

import os
from collections.abc import Collection, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pytest_memreq.measure.backends import Explanation, Recording
from pytest_memreq.measure.backends.generations import BlockKey
from pytest_memreq.measure.breakdowns import Mark, break_down, marks_of, sites_of
from pytest_memreq.measure.labels import Labels
from pytest_memreq.measure.phases import Place, Sources, places_of
from pytest_memreq.measure.traces import (
    FREE,
    Block,
    blocks_in_use,
    lives,
    operations,
    over_time,
    peak_of,
    undone,
    without,
)
from pytest_memreq.timeline import Timeline, thin_out

MOST_EVENTS = 200_000  # each keeps a stack, some KiB of the host's memory
CUT = (
    "the memory history keeps the last {} of {} allocations and frees: an earlier peak is not seen"
)
NOT_OURS = "the memory history was on already, and is read as it was switched on"
RECOUNTED = "the allocator's statistics were set back: what memory is, is told from the end alone"
AT_THE_START = "before its first allocation"


@contextmanager
def recording(index: int) -> Iterator[Recording]:
    """Torch's memory history of one device is on within it.

    Where it was on already it is read as it is and stays on. Who switches it on or off within, as
    nothing can tell, finds it off after.
    """
    torch.cuda.init()  # before that there is no allocator to record
    is_ours = not torch._C._cuda_isHistoryEnabled()
    if is_ours:
        torch.cuda.memory._record_memory_history(
            "all", context="all", stacks="python", max_entries=MOST_EVENTS
        )
    try:
        history = History(index, is_ours=is_ours)
        with history.labels.following():
            yield history
    finally:
        if is_ours:
            torch.cuda.memory._record_memory_history(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Every block that was in use since the clock read `began`, by birth."""

    blocks: tuple[Block, ...]
    began: int
    notes: tuple[str, ...] = ()


class History:
    """What was allocated on one device since this was made; memory history has to be on."""

    def __init__(self, index: int, *, is_ours: bool) -> None:
        self._index = index
        self._is_ours = is_ours
        self._began = _clock(index)
        self._start = blocks_in_use(torch.cuda.memory_snapshot(), index, self._began)
        self.labels = Labels(index, lambda: _clock(index))

    def explain(self, left: Collection[Hashable]) -> Explanation:
        """As `Recording`; gives up the workspaces of cuBLAS, which shows which they were."""
        self.labels.mark_all()
        returned = _clock(self._index)
        torch._C._cuda_clearCublasWorkspaces()
        trace = self._trace(returned)
        addresses = {
            key.address for key in left if isinstance(key, BlockKey) and key.device == self._index
        }
        blocks = without(trace.blocks, addresses, trace.began)
        peak = peak_of(blocks, trace.began)
        at_peak = [block for block in blocks if block.is_live(peak)]
        places = self._places(trace, returned)
        sites = sites_of(at_peak, marks_of(at_peak, self._marks(trace, returned)), places)
        last = next((places[block] for block in at_peak if block.born == peak > trace.began), None)
        return Explanation(
            breakdown=break_down(sites),
            sites=sites,
            peak_at=AT_THE_START if last is None else str(last) or None,
            timeline=_counted_from(trace.began, over_time(blocks, trace.began)),
            notes=trace.notes,
        )

    def source_of(self, tensor: torch.Tensor) -> str | None:
        """From the stack that the allocator keeps with each block in use."""
        address = tensor.untyped_storage().data_ptr()
        for segment in torch.cuda.memory_snapshot():
            for block in segment["blocks"]:
                if block["address"] == address and segment["device"] == self._index:
                    return _sources().line(block.get("frames"))
        return None

    def save(self, path: Path) -> None:
        """A pickle, which is for the viewer and never loaded here."""
        torch.cuda.memory._dump_snapshot(str(path))

    def _trace(self, returned: int) -> Trace:
        ended = _clock(self._index)
        snapshot = torch.cuda.memory._snapshot()
        events = operations(snapshot["device_traces"][self._index])
        counted = max(0, ended - self._began)
        if not self._is_ours:  # it may have begun before we did
            events = _without_free_stacks(events[max(0, len(events) - counted) :])
        # What was there when the test's function returned was marked then.
        began = min(ended - len(events), returned)
        is_cut = len(events) < counted
        final = blocks_in_use(snapshot["segments"], self._index, ended)
        start = undone(events, final, began) if is_cut else self._start_at(began)
        notes = {
            NOT_OURS: not self._is_ours,
            CUT.format(len(events), counted): is_cut,
            RECOUNTED: len(events) > counted,
        }
        return Trace(
            blocks=lives(start, events, final, ended),
            began=began,
            notes=tuple(note for note, holds in notes.items() if holds),
        )

    def _marks(self, trace: Trace, returned: int) -> Iterator[Mark]:
        """Those of workspaces too: what was given up since the test's function returned."""
        for mark in self.labels.marks:
            if mark.moment == returned or RECOUNTED not in trace.notes:
                yield mark
        for block in trace.blocks:
            if block.died is not None and block.died > returned:
                yield Mark(address=block.address, moment=returned, category="workspaces")

    def _places(self, trace: Trace, returned: int) -> dict[Block, Place]:
        is_clock_whole = RECOUNTED not in trace.notes
        changes = self.labels.changes if is_clock_whole else []
        phases = self.labels.phases(returned)
        return places_of(trace.blocks, changes, phases, _sources(), trace.began)

    def _start_at(self, began: int) -> tuple[Block, ...]:
        return tuple(replace(block, born=began) for block in self._start)


def _counted_from(began: int, points: Iterable[tuple[int, int]]) -> Timeline:
    return thin_out([(moment - began, size) for moment, size in points])


def _clock(index: int) -> int:
    """Allocations and frees so far, by the allocator's statistics."""
    counts: dict[str, Any] = torch._C._cuda_memoryStats(index)["allocation"]["all"]
    return int(counts["allocated"] + counts["freed"])


def _without_free_stacks(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    # Unless every stack is recorded, a free has that of its allocation, which misleads.
    return [{**e, "frames": None} if e["action"] == FREE else e for e in events]


def _sources() -> Sources:
    return Sources(torch=_folder(torch.__file__), ours=_folder(__file__, up=2))


def _folder(file: str, up: int = 1) -> str:
    return f"{Path(file).parents[up - 1]}{os.sep}"
