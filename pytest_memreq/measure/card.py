"""The peaks of one device, over stretches of work that nest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pytest_memreq.holdings import LiveBlock, total_bytes
from pytest_memreq.measure.backends import Aside, Backend, Outside
from pytest_memreq.requirement import DevicePeak, Peak, Refusal


class CardMeter:
    """One device: a device keeps one peak, so that of each open stretch is kept here."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._open: list[Peak] = []
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

    def set_aside(self, blocks: Iterable[LiveBlock]) -> None:
        """Keep what these blocks leave free of their segments from being used."""
        before = self.backend.allocation_count()
        keys = frozenset(b.key for b in blocks if b.device == self.backend.index)
        self.aside = self.backend.set_aside(keys)
        self._filled += self.backend.allocation_count() - before

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
        self._open = [Peak()]
        self._refusal = None

    def push(self) -> int:
        """A stretch within those that are open begins; its number."""
        self._fold()
        self._open.append(Peak())
        return len(self._open) - 1

    def pop(self, stretch: int) -> None:
        """A stretch is over, and those within it."""
        self._fold()
        del self._open[stretch:]

    def peak(self, stretch: int, left: Iterable[LiveBlock]) -> DevicePeak:
        """The peaks of an open stretch; `left` are blocks that do not count towards it."""
        self._fold()
        absolute = self._with_device(self._open[stretch])
        mine = [block for block in left if block.device == self.backend.index]
        theirs = _peak_of([*mine, *self.aside.fillers], self.aside)
        return DevicePeak(
            index=self.backend.index,
            name=self.backend.card_name(),
            peak=absolute.less(theirs),
            absolute_peak=absolute,
        )

    def outside_reason(self) -> str:
        """Why the peak of `device` is not known, empty where it is."""
        return self._outside.reason

    def refusal(self) -> Refusal | None:
        """The last allocation since `start` that there was no room for, as of the last `peak`."""
        return self._refusal

    def _fold(self) -> None:
        """Take the device's peaks over into every open stretch, and reset them."""
        if self.is_used:
            self.backend.synchronize()
        seen = self.backend.peak()
        self._refusal = self.backend.refusal() or self._refusal
        self._open = [peak.larger(seen) for peak in self._open]
        self.backend.reset_peaks()

    def _with_device(self, peak: Peak) -> Peak:
        # What is outside of the allocator has no peak; context and libraries only grow.
        now = self.backend.outside() if self.is_used else self._outside
        if peak.reserved_bytes is None or now.bytes is None or self._outside.bytes is None:
            return peak
        outside_bytes = max(now.bytes, self._outside.bytes)
        return replace(peak, device_bytes=peak.reserved_bytes + outside_bytes)


def _peak_of(left: list[LiveBlock], aside: Aside) -> Peak:
    """What blocks contribute: whole segments of what is set aside, of the rest only the blocks.

    A segment counts as long as one of its blocks is there.
    """
    alive = frozenset(block.key for block in left)
    segments = [segment for segment in aside.segments if segment.keys & alive]
    within = frozenset(key for segment in segments for key in segment.keys)
    apart_bytes = total_bytes(block for block in left if block.key not in within)
    held_bytes = sum(segment.bytes for segment in segments) + apart_bytes
    return Peak(
        requested_bytes=sum(block.requested_bytes for block in left),
        allocated_bytes=total_bytes(left),
        reserved_bytes=held_bytes,
        device_bytes=held_bytes,
    )
