"""A pretended card as a Meter."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from pytest_memreq.holdings import LiveBlock
from pytest_memreq.plugin.meters import SourceOf, Span, allocator_settings, environment_of
from pytest_memreq.results import Environment, Mode
from pytest_memreq.simulate.calibration import Calibration
from pytest_memreq.simulate.cards import find_card
from pytest_memreq.simulate.device import PretendedDevice


class SimulatedMeter:
    """A pretended card; its figures come with their sources."""

    mode: Mode = "simulated"

    def __init__(self, gpu: str, world_size: int, calibration: Calibration | None) -> None:
        self._world_size = world_size
        self.card_bytes: int | None = find_card(gpu).capacity_bytes
        self._device = PretendedDevice(
            find_card(gpu),
            allocator=allocator_settings() or "",
            workspaces=os.environ.get("CUBLAS_WORKSPACE_CONFIG", ""),
            calibration=calibration,
        )
        self.device = self._device.device
        self.active = self._device.active
        self.prepare = self._device.prepare
        self.tidy = self._device.tidy
        self.allocated_bytes = self._device.allocated_bytes
        self.set_aside = self._device.set_aside
        self.stamp = self._device.stamp
        self.live = self._device.live
        self.start = self._device.start
        self.finding = self._device.finding
        self.capped = self._device.capped
        self.paused = self._device.paused
        self.tell = self._device.tell

    def watch(self, _: Iterable[LiveBlock]) -> None:
        """No block ever has another's number."""

    def environment(self) -> Environment:
        """The card that is pretended, and the torch whose kernels and allocator are."""
        name = self._device.card.name
        return environment_of("simulated", name, self.card_bytes, self._world_size)

    def recording(self) -> None:
        """Each allocation's source is known without."""
        return

    @contextmanager
    def sources(self) -> Iterator[SourceOf]:
        """They are known at any time."""
        yield self._device.source_of

    @contextmanager
    def span(self, label: str) -> Iterator[Span]:
        """A stretch of the test, read from the events."""
        span, start = Span(label), self._device.event
        try:
            yield span
        finally:
            span.peak = self._device.peak_since(start)
