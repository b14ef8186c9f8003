"""The devices that are there as a Meter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from pytest_memreq.measure.backends import Backend, Recording
from pytest_memreq.measure.meter import DeviceMeter
from pytest_memreq.plugin.meters import SourceOf, Span, environment_of
from pytest_memreq.results import Environment, Mode

if TYPE_CHECKING:
    import torch


class MeasuringMeter:
    """Devices; shares and the environment are those of the first."""

    mode: Mode = "measured"

    def __init__(self, backends: Sequence[Backend], world_size: int) -> None:
        meter = DeviceMeter(backends)
        self._first = backends[0]
        self._world_size = world_size
        self.prepare = meter.prepare
        self.tidy = meter.tidy
        self.allocated_bytes = meter.allocated_bytes
        self.set_aside = meter.set_aside
        self.stamp = meter.stamp
        self.live = meter.live
        self.start = meter.start
        self.finding = meter.finding
        self.capped = meter.capped
        self.active = meter.active
        self.paused = meter.paused
        self.watch = meter.watch
        self._meter = meter

    @property
    def device(self) -> torch.device:
        """The first."""
        return self._first.device()

    @property
    def card_bytes(self) -> int | None:
        """Of the first."""
        return self._first.capacity_bytes()

    def environment(self) -> Environment:
        """The device, and the torch that runs on it."""
        name = self._first.card_name()
        return environment_of("measured", name, self.card_bytes, self._world_size)

    def recording(self) -> AbstractContextManager[Recording] | None:
        """Of the first device."""
        return self._first.recording()

    @contextmanager
    def sources(self) -> Iterator[SourceOf]:
        """By recording what is allocated within it."""
        recording = self.recording()
        if recording is None:
            yield _unknown
            return
        with recording as recorded:
            yield recorded.source_of

    @contextmanager
    def span(self, label: str) -> Iterator[Span]:
        """A stretch of the test, with a peak of its own."""
        span = Span(label)
        with self._meter.span() as peak_of:
            try:
                yield span
            finally:
                span.peak = peak_of()


def _unknown(_: torch.Tensor) -> None:
    return
