"""The measuring protocol: clean up, reset, run, wait, read.

Peaks are absolute: what earlier tests left is in them, and told apart as `held_bytes`.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pytest_memreq.measure.backends import Backend
from pytest_memreq.requirement import METRICS, Finding, Peak


class DeviceMeter:
    """Measures one test at a time on a backend; spans within a test nest."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._held_bytes = 0
        self._count = 0
        self._open: list[Peak] = []  # peaks so far of the test and of the spans within it

    def prepare(self) -> None:
        """Let go of what nothing uses, and note what is held."""
        gc.collect()
        self._backend.synchronize()
        self._backend.release_unused()
        self._held_bytes = self._backend.allocated_bytes()
        self._count = self._backend.allocation_count()

    def start(self) -> None:
        """The peak starts from what is allocated now."""
        gc.collect()
        self._backend.synchronize()
        self._backend.reset_peaks()
        self._open = [Peak()]

    def finding(self) -> Finding:
        """What the device counted since `start`."""
        self._fold()
        return Finding(
            peak=self._open[0],
            did_allocate=self._backend.allocation_count() > self._count,
            held_bytes=self._held_bytes,
        )

    @contextmanager
    def span(self) -> Iterator[Callable[[], Peak]]:
        """A stretch with a peak of its own, given by what it yields; the test's stays whole."""
        self._fold()
        self._open.append(Peak())
        at = len(self._open) - 1

        def peak() -> Peak:
            self._fold()
            return self._open[at]

        try:
            yield peak
        finally:
            self._fold()
            del self._open[at:]

    def _fold(self) -> None:
        """Take the device's peaks over into every open stretch, and reset them."""
        self._backend.synchronize()
        seen = self._backend.peak()
        self._open = [larger(peak, seen) for peak in self._open]
        self._backend.reset_peaks()


def larger(a: Peak, b: Peak) -> Peak:
    """The larger of each metric; what only one knows is that one's."""
    sizes = {
        f"{metric}_bytes": max(
            (size for size in (a.of(metric), b.of(metric)) if size is not None), default=None
        )
        for metric in METRICS
    }
    return Peak(**sizes)
