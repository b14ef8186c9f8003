"""The peaks of one device, over stretches of work that nest."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import reduce

from pytest_memreq.errors import DeviceLostError
from pytest_memreq.holdings import LiveBlock, total_bytes
from pytest_memreq.measure.backends import Aside, Backend, Outside
from pytest_memreq.requirement import DevicePeak, Peak, Refusal

NOTHING = Peak(requested_bytes=0, allocated_bytes=0, reserved_bytes=0, device_bytes=0)


@dataclass(frozen=True, slots=True)
class Stretch:
    """The peaks of a stretch, apart for each time that other segments were set aside."""

    parts: tuple[tuple[Aside, Peak], ...] = field(default=())

    def with_peak(self, aside: Aside, peak: Peak) -> Stretch:
        """The same, with a peak of the time when that was set aside."""
        if self.parts and self.parts[-1][0] is aside:
            peak = self.parts[-1][1].larger(peak)
            return Stretch((*self.parts[:-1], (aside, peak)))
        return Stretch((*self.parts, (aside, peak)))


class CardMeter:
    """One device: a device keeps one peak, so that of each open stretch is kept here."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._open: list[Stretch] = []
        self._paused = 0  # that many of the open stretches
        self._outside = Outside()
        self._count = self._filled = 0
        self.aside = Aside()
        self._refusal: Refusal | None = None
        self._is_warm = False

    @property
    def is_used(self) -> bool:
        """True once the process has allocated on the device."""
        return self._is_warm or self.backend.allocation_count() > 0

    @property
    def did_allocate(self) -> bool:
        """True if something was allocated since `prepare`, fillers apart."""
        return self.backend.allocation_count() > self._count + self._filled

    def prepare(self) -> None:
        """Have made what is made once a process; count allocations from here."""
        if not self._is_warm:
            self.backend.warm_up()
            self._is_warm = True
        self._count = self.backend.allocation_count()
        self._filled = 0
        self._open = []

    def set_aside(self, blocks: Iterable[LiveBlock]) -> None:
        """Keep what these blocks leave free of their segments from being used."""
        if self._open:
            self._fold()
        before = self.backend.allocation_count()
        keys = frozenset(b.key for b in blocks if b.device == self.backend.index)
        self.aside = self.backend.set_aside(keys)
        self._filled += self.backend.allocation_count() - before
        if self._open:
            self.backend.reset_peaks()

    def tidy(self) -> None:
        """Wait; give up workspaces and the cache."""
        self.backend.synchronize()
        self.backend.release_unused()

    def start(self) -> None:
        """The first stretch begins."""
        if self.is_used:
            self.backend.synchronize()
            self._outside = self.backend.outside()
        self.backend.reset_peaks()
        self._open = [Stretch()]
        self._paused = 0
        self._refusal = None

    def push(self) -> int:
        """A stretch within those that are open begins; its number."""
        self._fold()
        self._open.append(Stretch())
        return len(self._open) - 1

    def pop(self, stretch: int) -> None:
        """A stretch is over, and those within it."""
        self._fold()
        del self._open[stretch:]

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens within it is in no peak of the stretches that are open."""
        self._fold()
        before, self._paused = self._paused, len(self._open)
        try:
            yield
        finally:
            with suppress(DeviceLostError):  # who asks for peaks finds out; what was raised goes on
                self._fold()
            self._paused = before

    def watched(self) -> AbstractContextManager[None]:
        """Within it, resets of the peaks by others take nothing away."""
        return self.backend.resets_noticed(self._fold)

    def peak(
        self, stretch: int, left: Collection[LiveBlock], others: Collection[Hashable]
    ) -> DevicePeak:
        """The peaks of an open stretch.

        `others` are the keys of all blocks that did not count towards it when it began, `left`
        those of them that are still there.
        """
        self._fold()
        mine = [block for block in left if block.device == self.backend.index]
        parts = [(aside, self._absolute(aside, peak)) for aside, peak in self._open[stretch].parts]
        net = [peak.less(_theirs(mine, others, aside)) for aside, peak in parts]
        return DevicePeak(
            index=self.backend.index,
            name=self.backend.card_name(),
            peak=reduce(Peak.larger, net, Peak()),
            absolute_peak=reduce(Peak.larger, (peak for _, peak in parts), Peak()),
        )

    def outside_reason(self) -> str:
        """Why the peak of `device` is not known, empty where it is."""
        return self._outside.reason

    def refusal(self) -> Refusal | None:
        """The last allocation since `start` that there was no room for, as of the last `peak`."""
        return self._refusal

    def cap(self, limit_bytes: int | None, others: Collection[LiveBlock] = ()) -> bool:
        """Refuse what would have more held besides what others left; None lifts it."""
        if limit_bytes is None:
            return self.backend.cap(None)
        mine = [block for block in others if block.device == self.backend.index]
        keys = frozenset(block.key for block in mine)
        return self.backend.cap(limit_bytes + (_theirs(mine, keys, self.aside).reserved_bytes or 0))

    def _fold(self) -> None:
        """Take the device's peaks over into every open stretch, and reset them."""
        if self.is_used:
            self.backend.synchronize()
        seen = self.backend.peak()
        self._refusal = self._without_fillers(self.backend.refusal()) or self._refusal
        self._open[self._paused :] = [
            stretch.with_peak(self.aside, seen) for stretch in self._open[self._paused :]
        ]
        self.backend.reset_peaks()

    def _without_fillers(self, refusal: Refusal | None) -> Refusal | None:
        if refusal is None:
            return None
        ours_bytes = total_bytes(self.aside.fillers)
        return replace(refusal, allocated_bytes=refusal.allocated_bytes - ours_bytes)

    def _absolute(self, aside: Aside, peak: Peak) -> Peak:
        # What is outside of the allocator has no peak; context and libraries only grow.
        peak = replace(peak, device_bytes=0).less(_sum_of(aside.fillers, reserved_bytes=0))
        now = self.backend.outside() if self.is_used else self._outside
        if peak.reserved_bytes is None or now.bytes is None or self._outside.bytes is None:
            return replace(peak, device_bytes=None)
        outside_bytes = max(now.bytes, self._outside.bytes)
        return replace(peak, device_bytes=peak.reserved_bytes + outside_bytes)


def _theirs(left: Collection[LiveBlock], others: Collection[Hashable], aside: Aside) -> Peak:
    """What others contribute: whole segments where all is theirs, of the rest only their blocks.

    A segment counts as long as one of its blocks is there. One that was set aside with a fixture
    which the test asked for later is the test's own.
    """
    alive = frozenset(block.key for block in left)
    known = frozenset(others)
    segments = [each for each in aside.segments if each.keys & alive and each.keys <= known]
    within = frozenset(key for segment in segments for key in segment.keys)
    apart_bytes = total_bytes(block for block in left if block.key not in within)
    held_bytes = sum(segment.bytes for segment in segments) + apart_bytes
    return _sum_of(left, reserved_bytes=held_bytes)


def _sum_of(blocks: Collection[LiveBlock], reserved_bytes: int) -> Peak:
    return Peak(
        requested_bytes=sum(block.requested_bytes for block in blocks),
        allocated_bytes=total_bytes(blocks),
        reserved_bytes=reserved_bytes,
        device_bytes=reserved_bytes,
    )
