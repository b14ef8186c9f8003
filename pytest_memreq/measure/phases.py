"""Where in the work a block was allocated: modules and phases, noted or read from its stack."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pytest_memreq.measure.traces import Block, Frame

PhaseKind = Literal["forward", "backward", "optimizer"]
# torch/autograd/__init__.py and graph.py, on the thread that called backward() or grad().
STARTS_BACKWARD, RUNS_BACKWARD = "_make_grads", "_engine_run_backward"
# Frames of C++ may be among those of Python; torch.compile writes Python of its own.
PYTHON, COMPILED = ".py", "torchinductor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A stretch of work: one root module's forward, one optimizer step, a run of backward.

    `ended` is the clock's reading at its end. `is_recorded` is True where autograd was on.
    """

    kind: PhaseKind
    ended: int
    is_recorded: bool = False
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """From `moment` on the work is in `module` of phase number `phase`; None is in neither."""

    moment: int
    module: str | None = None
    phase: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a block was allocated. The source is the user's line, as `file:line`."""

    phase: Phase | None = None
    module: str | None = None
    source: str | None = None

    def __str__(self) -> str:
        kind = self.phase.kind if self.phase else ""
        module = f" of {self.module}" if self.module and kind else ""
        return ", ".join(part for part in (f"{kind}{module}", self.source) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Tells the user's code: `libraries` are the folders of torch and of what measures."""

    torch: str
    ours: str
    here: Path = field(default_factory=Path.cwd)

    def line(self, frames: Iterable[Frame] | None) -> str | None:
        """The innermost line of the user's."""
        mine = (frame for frame in frames or () if not self._is_library(frame["filename"]))
        return next((f"{self._short(f['filename'])}:{f['line']}" for f in mine), None)

    def is_backward(self, frames: Iterable[Frame]) -> bool:
        """True on autograd's threads: what they run has no stack, or one that begins in torch."""
        mine = [frame for frame in frames if frame["filename"].endswith(PYTHON)]
        if not mine or mine[-1]["filename"].startswith(self.torch):
            return True
        return any(frame["name"] in (STARTS_BACKWARD, RUNS_BACKWARD) for frame in mine)

    def _is_library(self, name: str) -> bool:
        is_ours = name.startswith((self.torch, self.ours)) or COMPILED in name
        return is_ours or not name.endswith(PYTHON)

    def _short(self, name: str) -> str:
        path = Path(name)
        if path.is_relative_to(self.here):
            return path.relative_to(self.here).as_posix()
        return "/".join(name.replace(os.sep, "/").split("/")[-2:])


def places_of(
    blocks: Sequence[Block],
    changes: Sequence[Change],
    phases: Mapping[int, Phase],
    sources: Sources,
    began: int,
) -> dict[Block, Place]:
    """The place of each block; of those that were there when it began, no more than the line.

    Backward work allocates on a thread of autograd's, where there is no line of the user's: it is
    given that of the `backward()` before it, where that allocated the gradient to begin with.
    """
    runs = _backward_runs(blocks, sources, began)
    moments = [change.moment for change in changes]
    places = {}
    for block in blocks:
        at = bisect_left(moments, block.born) - 1
        change = changes[at] if at >= 0 else Change(moment=began)
        phase = phases.get(change.phase) if change.phase is not None else None
        if phase is None or phase.kind == "optimizer":  # its closure may run backward
            phase = runs.get(block, phase)
        source = sources.line(block.frames) or (phase.source if phase else None)
        places[block] = Place(phase=phase, module=change.module, source=source)
    return places


def _backward_runs(blocks: Sequence[Block], sources: Sources, began: int) -> dict[Block, Phase]:
    """The run of backward work that each block was born in, of those that were in one.

    A run is broken by what is allocated or freed outside of backward, and ends with its last
    allocation or free.
    """
    stacks = _stacks(blocks, began)
    if not any(frames for _, frames, _ in stacks):
        return {}  # a history without stacks, which cannot tell
    runs: list[list[tuple[int, Sequence[Frame], Block | None]]] = [[]]
    for moment, frames, born in stacks:
        is_backward = sources.is_backward(frames)
        if not is_backward or (born and _starts_backward(frames)):
            runs.append([])
        if is_backward:
            runs[-1].append((moment, frames, born))
    phases = [(run, _run(run[0][1], run[-1][0], sources)) for run in runs if run]
    return {born: phase for run, phase in phases for _, _, born in run if born}


def _stacks(blocks: Sequence[Block], began: int) -> list[tuple[int, Sequence[Frame], Block | None]]:
    """Each operation with a known stack, in order; the block that it made, None of a free."""
    births = [(b.born, b.frames, b) for b in blocks if b.born > began and b.frames is not None]
    ends = [(b.died, b.freed_by) for b in blocks]
    deaths = [(at, by, None) for at, by in ends if at is not None and by is not None]
    return sorted([*births, *deaths], key=lambda stack: stack[0])


def _run(first: Sequence[Frame], ended: int, sources: Sources) -> Phase:
    source = sources.line(first) if _starts_backward(first) else None
    return Phase(kind="backward", ended=ended, source=source)


def _starts_backward(frames: Sequence[Frame]) -> bool:
    return any(frame["name"] == STARTS_BACKWARD for frame in frames)
