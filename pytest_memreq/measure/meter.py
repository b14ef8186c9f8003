"""The measuring protocol: clean up, reset, run, wait, read.

What others left is taken off the peaks as far as it is still there at the end. What went away
meanwhile may have made room, so it stays in, and a note says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import reduce

from pytest_memreq import garbage
from pytest_memreq.holdings import Held, LiveBlock, nothing_held, total_bytes
from pytest_memreq.measure.backends import Backend
from pytest_memreq.measure.card import CardMeter
from pytest_memreq.requirement import METRICS, DevicePeak, Finding, Metric, Peak, Refusal
from pytest_memreq.units import format_size

LEFT = "what earlier tests left was in the way: allocated and reserved may differ by parts of it"


class DeviceMeter:
    """Measures one test at a time on the devices of the process; spans within a test nest.

    A device counts from when the process first allocates on it, the first one always.
    """

    def __init__(self, backends: Sequence[Backend]) -> None:
        self._cards = tuple(map(CardMeter, backends))
        self._held: Callable[[], Held] = nothing_held
        self._held_bytes = 0

    def prepare(self) -> None:
        """Before a test's setup: let go of what nothing uses."""
        self._held = nothing_held
        for card in self._used():
            card.prepare()
            card.tidy()
        if self.allocated_bytes():  # it may be garbage that holds it
            self.tidy()
        self._held_bytes = self.allocated_bytes()

    def tidy(self) -> None:
        """Collect garbage, wait, give up workspaces and the cache."""
        garbage.collect()
        for card in self._used():
            card.tidy()

    def set_aside(self, blocks: Iterable[LiveBlock]) -> None:
        """Keep what these blocks leave free of their segments from being used, until next time."""
        blocks = tuple(blocks)
        for card in self._used():
            card.set_aside(blocks)

    def watch(self, blocks: Iterable[LiveBlock]) -> None:
        """See to it that none of these blocks is taken for one that comes to lie where it was."""
        keys = frozenset(block.key for block in blocks)
        for card in self._used():
            card.backend.watch(keys)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Within it, resets of the peaks by the user take nothing away from ours."""
        with ExitStack() as stack:
            for card in self._cards:
                stack.enter_context(card.watched())
            yield

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens within it is in no peak, but for what it leaves."""
        with ExitStack() as stack:
            for card in self._used():
                stack.enter_context(card.paused())
            yield

    def stamp(self) -> tuple[int, int]:
        """Allocations so far and what is allocated: where both are the same, nothing is new."""
        return sum(card.backend.allocation_count() for card in self._used()), self.allocated_bytes()

    def live(self) -> tuple[LiveBlock, ...] | None:
        """The blocks in use on every device; None where one does not list them."""
        found = [card.backend.live_blocks() for card in self._used()]
        if any(blocks is None for blocks in found):
            return None
        return tuple(block for blocks in found for block in blocks or ())

    def allocated_bytes(self) -> int:
        """What is allocated now, on all devices."""
        return sum(card.backend.allocated_bytes() for card in self._used())

    def start(self, held: Callable[[], Held] = nothing_held) -> None:
        """Before a test's call, once it is tidy: the peak starts from what is allocated now.

        `held` says what was alive then; it is asked when peaks are read, for a test may still ask
        for fixtures that were there before.
        """
        self._held = held
        for card in self._cards:
            card.start()

    def finding(self) -> Finding:
        """What the devices counted since `start`."""
        held = self._held()
        left = self._left(held)
        devices = self._peaks(0, held, left)
        for card in self._cards:
            card.backend.rest()
        return Finding(
            peak=_worst([device.peak for device in devices]),
            absolute_peak=_worst([device.absolute_peak for device in devices]),
            did_allocate=any(card.did_allocate for card in self._cards),
            held_bytes=self._held_bytes,
            held_by=held.by_others(),
            fixtures_bytes=held.fixtures_bytes,
            devices=devices if len(devices) > 1 else (),
            refusal=self._refusal(),
            unknown=self._unknown(),
            notes=tuple(self._notes(held, left)),
        )

    @contextmanager
    def span(self) -> Iterator[Callable[[], Peak]]:
        """A stretch with a peak of its own, given by what it yields; the test's stays whole."""
        stretch = max(card.push() for card in self._cards)

        def peak() -> Peak:
            held = self._held()
            devices = self._peaks(stretch, held, self._left(held))
            return _worst([device.peak for device in devices])

        try:
            yield peak
        finally:
            for card in self._cards:
                card.pop(stretch)

    @contextmanager
    def capped(self, limit_bytes: int | None) -> Iterator[bool]:
        """Within it no device holds more besides what others left; False where it cannot be kept.

        None is no limit.
        """
        others = self._held().others_blocks
        capable = [card.cap(limit_bytes, others) for card in self._cards]
        try:
            yield all(capable)
        finally:
            for card in self._cards:
                card.cap(None)

    def _used(self) -> list[CardMeter]:
        first, *more = self._cards
        return [first, *(card for card in more if card.is_used)]

    def _peaks(self, stretch: int, held: Held, left: Sequence[LiveBlock]) -> tuple[DevicePeak, ...]:
        others = frozenset(block.key for block in held.others_blocks)
        return tuple(card.peak(stretch, left, others) for card in self._used())

    def _left(self, held: Held) -> tuple[LiveBlock, ...]:
        """What others left and is still there."""
        others = held.others_blocks
        alive = frozenset(self.live() or ()) if others else frozenset()
        return tuple(block for block in others if block in alive)

    def _unknown(self) -> tuple[tuple[Metric, str], ...]:
        reasons = [reason for card in self._used() if (reason := card.outside_reason())]
        return (("device", reasons[0]),) if reasons else ()

    def _refusal(self) -> Refusal | None:
        found = (card.refusal() for card in self._used())
        return next((refusal for refusal in found if refusal is not None), None)

    def _notes(self, held: Held, left: Sequence[LiveBlock]) -> Iterator[str]:
        gone_bytes = total_bytes(held.others_blocks) - total_bytes(left)
        if held.others and not all(card.aside.is_whole for card in self._used()):
            yield LEFT
        if gone_bytes:
            yield f"{format_size(gone_bytes)} that others left went away meanwhile, and is counted"
        for card in self._used():
            yield from card.backend.notes()


def _worst(peaks: Sequence[Peak]) -> Peak:
    """The largest of each metric; one that a device does not know is not known."""
    known = reduce(Peak.larger, peaks)
    gaps = {f"{m}_bytes": None for m in METRICS if any(peak.of(m) is None for peak in peaks)}
    return replace(known, **gaps)
