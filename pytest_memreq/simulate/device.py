"""The pretended device: C++ sees meta tensors, Python sees `cuda:0`.

It has no kernels of its own and patches no C structures. What it changes while active is in
`pretending`; leaving undoes all of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor

from pytest_memreq import garbage
from pytest_memreq.errors import SimulationError
from pytest_memreq.holdings import Held, LiveBlock, nothing_held, total_bytes
from pytest_memreq.requirement import METRICS, Peak
from pytest_memreq.simulate import composites
from pytest_memreq.simulate.accumulation import owners_of_a_lone_gradient
from pytest_memreq.simulate.allocator import parse_settings, tie_of
from pytest_memreq.simulate.attribution import Attribution
from pytest_memreq.simulate.calibration import Calibration, calibrated
from pytest_memreq.simulate.cards import Card
from pytest_memreq.simulate.handlers import HANDLERS
from pytest_memreq.simulate.ledger import Ledger
from pytest_memreq.simulate.numbering import Numbering
from pytest_memreq.simulate.pretending import Pretence, installed
from pytest_memreq.simulate.reading import (
    Gap,
    as_live,
    counted_peak,
    keys_of,
    read,
    reserved_by,
)
from pytest_memreq.simulate.recorder import Recorder
from pytest_memreq.simulate.simulation import Simulation
from pytest_memreq.simulate.storages import Storages
from pytest_memreq.simulate.streams import DEVICE, Streams
from pytest_memreq.simulate.summary import (
    break_down,
    describe_place,
    notes_of,
    phases_since,
    sites_of,
)
from pytest_memreq.simulate.threads import ELSEWHERE
from pytest_memreq.simulate.tracer import Told, Tracer
from pytest_memreq.simulate.versions import torch_version
from pytest_memreq.simulate.work import work_of
from pytest_memreq.simulate.workspaces import Workspaces
from pytest_memreq.timeline import thin_out

ROCM = "kernels of ROCm are simulated as if they were CUDA's; this card was compared with nothing"
FAKE_TENSORS = "torch._subclasses.fake_tensor"

# What is changed while a device is active belongs to the process, so this does too: the devices
# that are active, innermost last, and the thread they are active in.
_active: list[PretendedDevice] = []
_thread = threading.RLock()


class PretendedDevice:
    """One pretended card; what is allocated on it stays between activations, as on a real one."""

    device = DEVICE

    def __init__(
        self,
        card: Card,
        allocator: str = "",
        capacity_bytes: int | None = None,
        workspaces: str = "",
        calibration: Calibration | None = None,
    ) -> None:
        self.card = card
        self._calibrated = calibrated(calibration, card.name, torch_version())
        settings = parse_settings(
            allocator,
            tie=tie_of(torch_version()),
            card_bytes=card.capacity_bytes if capacity_bytes is None else capacity_bytes,
            context_bytes=self._calibrated.context_bytes or 0,
        )
        owners_of_a_lone_gradient()  # found out now, while no backward runs
        self._ledger = Ledger(settings)
        self._streams = Streams()
        self._storages = Storages(self._ledger)
        self._standing_notes = (*((ROCM,) if card.is_rocm else ()), *self._calibrated.notes)
        self._notes: dict[str, None] = {}
        self._numbering = Numbering(self._storages.is_pretended)
        self._attribution = Attribution(self._ledger, self._storages, self._notes, self._numbering)
        self._workspaces = Workspaces(card, workspaces, self._calibrated.workspace_bytes)
        kernels = composites.kernels_for(card)
        recorder = Recorder(
            self._ledger,
            self._storages,
            self._attribution,
            self._workspaces,
            card,
            self._streams,
        )
        self._tracer = Tracer(recorder, kernels, HANDLERS, self._notes)
        self._pretence = Pretence(
            card=card,
            ledger=self._ledger,
            streams=self._streams,
            workspaces=self._workspaces,
            tracer=self._tracer,
            numbering=self._numbering,
            attribution=self._attribution,
            kernels=kernels,
            notes=self._notes,
        )
        self._start_event = 0
        self._gaps: list[Gap] = []
        self._held_bytes = 0
        self._held: Callable[[], Held] = nothing_held

    @contextmanager
    def active(self) -> Iterator[None]:
        """Within it `cuda` is this device; leaving restores every changed name, kernel and default.

        May be entered again within itself. Raises SimulationError in a second thread.
        """
        if not _thread.acquire(blocking=False):
            raise SimulationError(
                "a device is being pretended in another thread; simulate in one thread at a time"
            )
        try:
            if _active and _active[-1] is self:
                yield
            else:
                with self._pushed(), installed(self._pretence):
                    yield
        finally:
            _thread.release()

    def tell(self, told: Told) -> None:
        """Let `told` hear, a few times a second, how many operators there were since `prepare`."""
        self._tracer.told = told

    def prepare(self) -> None:
        """Before a test's setup: let go of what nothing uses, forget what was counted."""
        self._attribution.forget_graph()
        self._numbering.restart()
        self._workspaces.clear()
        (garbage.collect if self._ledger.live else garbage.collect_young)()
        self._tracer.pretended.clear()
        self._tracer.operators = 0
        self._tracer.works_elsewhere = False
        self._notes.clear()
        self._notes.update(dict.fromkeys(self._standing_notes))
        self._ledger.restart()
        self._held_bytes = self._ledger.live_bytes
        self._held = nothing_held
        self._start_event = 0

    def tidy(self) -> None:
        """Let go of what only workspaces, garbage and the cache hold."""
        self._workspaces.clear()
        garbage.collect()
        self._ledger.empty_cache()

    def set_aside(self, blocks: Iterable[LiveBlock]) -> None:
        """Let nothing be put beside these blocks, until the next time."""
        self._ledger.set_aside(frozenset(block.key for block in blocks))

    def stamp(self) -> tuple[int, int]:
        """Allocations so far and what is allocated: where both are the same, nothing is new."""
        return self._ledger.count, self._ledger.live_bytes

    def live(self) -> tuple[LiveBlock, ...]:
        """The blocks in use, by their numbers, which are never used again."""
        return tuple(map(as_live, self._ledger.live.values()))

    def source_of(self, tensor: Tensor) -> str | None:
        """The user's line that a tensor's storage was made in."""
        block = self._storages.block_of(tensor)
        return None if block is None else block.source

    def allocated_bytes(self) -> int:
        """What is allocated now."""
        return self._ledger.live_bytes

    @contextmanager
    def capped(self, limit_bytes: int | None) -> Iterator[bool]:
        """Within it the allocator holds no more besides what others left; None is no limit."""
        if limit_bytes is not None:
            limit_bytes += reserved_by(self._ledger, keys_of(self._held()))
        with self._ledger.allocator.limited(limit_bytes):
            yield True

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens within it is in no peak, but for what it leaves."""
        first, possible_bytes = self.event, self._ledger.possible_peak_bytes
        try:
            yield
        finally:
            self._gaps.append((first, self.event))
            self._ledger.forget_possible()
            self._ledger.note_possible(possible_bytes - self._ledger.live_bytes)

    def start(self, held: Callable[[], Held] = nothing_held) -> None:
        """Before a test's call, once it is tidy: the peak starts from what is live now.

        What others hold, as `held` says when peaks are read, counts towards none of them.
        """
        self._held = held
        self._ledger.refusal = None
        self._ledger.zeroed_bytes = 0
        self._attribution.begin()
        self._ledger.reset_peak()
        self._ledger.forget_possible()
        self._start_event = self.event
        self._gaps = []

    @property
    def event(self) -> int:
        """How many allocations and frees there were since `prepare`."""
        return len(self._ledger.events)

    def requests(self) -> list[int]:
        """Bytes asked for since `prepare`, in order; a free is its request's negative."""
        blocks = self._ledger.blocks
        return [
            blocks[event].requested_bytes if event >= 0 else -blocks[~event].requested_bytes
            for event in self._ledger.events
        ]

    @property
    def pretended(self) -> tuple[str, ...]:
        """Calls since `prepare` that were answered with a made-up value, each once."""
        return tuple(self._tracer.pretended)

    def peak_since(self, event: int) -> Peak:
        """The peaks from an event until now, without what others hold."""
        found = counted_peak(self._ledger, event, keys_of(self._held()), self._gaps)
        return self._calibrated.peak(found)

    def finding(self) -> Simulation:
        """What happened since `start`."""
        self._attribution.mark_all()
        held = self._held()
        found = read(self._ledger, self._start_event, keys_of(held), self._gaps)
        possible = self._ledger.possible_peak_bytes - total_bytes(held.others_blocks)
        peak_bytes = found.peak.allocated_bytes or 0
        recorded = self._attribution.recorded_operations
        absolute = counted_peak(self._ledger, self._start_event, gaps=self._gaps)
        is_blind = self._tracer.works_elsewhere
        blind = tuple((metric, ELSEWHERE) for metric in METRICS)
        return Simulation(
            card=self.card,
            peak=Peak() if is_blind else self._calibrated.peak(found.peak),
            absolute_peak=self._calibrated.peak(absolute),
            did_allocate=any(event >= 0 for event in self._ledger.events),
            breakdown=self._calibrated.breakdown(break_down(found.live)),
            sites=sites_of(found.live),
            peak_at=describe_place(found.live[-1]) if found.live else None,
            held_bytes=self._held_bytes,
            held_by=held.by_others(),
            fixtures_bytes=held.fixtures_bytes,
            refusal=self._ledger.refusal,
            unknown=blind if is_blind else self._calibrated.unknown,
            pretended=self.pretended,
            work=work_of(self._ledger, self._start_event, found.live, recorded),
            notes=notes_of(self._notes, possible, peak_bytes),
            timeline=thin_out(tuple(enumerate(found.sizes))),
            phases=phases_since(self._ledger.phases, self._start_event, self.event),
            possible_peak_bytes=possible if possible > peak_bytes else None,
        )

    @contextmanager
    def _pushed(self) -> Iterator[None]:
        outer = _active[-1] if _active else None
        if outer is not None:
            outer._tracer.is_suspended = True
        _active.append(self)
        try:
            yield
        finally:
            _active.pop()
            if outer is not None:
                outer._tracer.is_suspended = False
