"""What finds out a test's requirement: a device, or a pretended one; made when first needed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import pytest

from pytest_memreq.errors import MemreqError
from pytest_memreq.measure.backends import Backend
from pytest_memreq.measure.meter import DeviceMeter
from pytest_memreq.plugin.config import Settings
from pytest_memreq.requirement import Finding, Peak
from pytest_memreq.results import Environment, Mode
from pytest_memreq.simulate.cards import DEFAULT_CARD, find_card

if TYPE_CHECKING:
    import torch

MEASURING = ("measure", "both")  # modes that are nothing without a device


@dataclass(slots=True)
class Span:
    """A stretch of a test; `peak` is known once it is over."""

    label: str
    peak: Peak | None = None


class Meter(Protocol):
    """One way to find out what a test needs.

    The order for each test: `prepare`, its setup, `start`, its call, `finding`, its teardown, all
    three phases within `active`.
    """

    @property
    def mode(self) -> Mode:
        """How the figures come about."""

    @property
    def card_bytes(self) -> int | None:
        """The card's capacity, which shares are of."""

    @property
    def device(self) -> torch.device:
        """The device to put the work on."""

    def environment(self) -> Environment:
        """What the figures hold for."""

    def active(self) -> AbstractContextManager[None]:
        """The device is there."""

    def prepare(self) -> None:
        """Clean up, and note what is held."""

    def start(self) -> None:
        """The peak starts from here."""

    def finding(self) -> Finding:
        """What happened since `start`."""

    def span(self, label: str) -> AbstractContextManager[Span]:
        """A stretch of its own, which leaves the test's peak as it is."""


class SimulatedMeter:
    """A pretended card as a Meter."""

    mode: Mode = "simulated"

    def __init__(self, gpu: str) -> None:
        from pytest_memreq.simulate.device import PretendedDevice  # imports torch

        self.card_bytes: int | None = find_card(gpu).capacity_bytes
        self._device = PretendedDevice(
            find_card(gpu),
            allocator=_allocator() or "",
            workspaces=os.environ.get("CUBLAS_WORKSPACE_CONFIG", ""),
        )
        self.device = self._device.device
        self.active = self._device.active
        self.prepare = self._device.prepare
        self.start = self._device.start
        self.finding = self._device.finding

    def environment(self) -> Environment:
        """The card that is pretended, and the torch whose kernels and allocator are."""
        return _environment("simulated", self._device.card.name, self.card_bytes)

    @contextmanager
    def span(self, label: str) -> Iterator[Span]:
        """A stretch of the test, read from the events."""
        span, start = Span(label), self._device.event
        try:
            yield span
        finally:
            span.peak = self._device.peak_since(start)


class MeasuringMeter:
    """A device as a Meter."""

    mode: Mode = "measured"

    def __init__(self, backend: Backend) -> None:
        meter = DeviceMeter(backend)
        self._backend = backend
        self.device = backend.device()
        self.card_bytes: int | None = backend.capacity_bytes()
        self.prepare = meter.prepare
        self.start = meter.start
        self.finding = meter.finding
        self._meter = meter

    def active(self) -> AbstractContextManager[None]:
        """The device is always there."""
        return nullcontext()

    def environment(self) -> Environment:
        """The device, and the torch that runs on it."""
        return _environment("measured", self._backend.card_name(), self.card_bytes)

    @contextmanager
    def span(self, label: str) -> Iterator[Span]:
        """A stretch of the test, with a peak of its own."""
        span = Span(label)
        with self._meter.span() as peak_of:
            try:
                yield span
            finally:
                span.peak = peak_of()


class Meters:
    """The meters of a process, each made once."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self._config = config
        self._settings = settings
        self._pretended: dict[str, SimulatedMeter] = {}
        self._measuring: MeasuringMeter | None = None
        self._backend: Backend | None = None
        self._has_looked = False

    def card_for(self, gpu: str | None) -> str:
        """The card that a test would be simulated on: its own, the run's, or the default."""
        return find_card(gpu or self._settings.gpu or DEFAULT_CARD).name

    def meter_for(self, gpu: str | None) -> Meter:
        """The meter of a test. Raises MemreqError where measuring was asked for and nothing can."""
        backend = None if self._settings.mode == "simulate" else self.backend()
        if backend is not None:
            if self._measuring is None:
                self._measuring = MeasuringMeter(backend)
            return self._measuring
        if self._settings.mode in MEASURING:
            raise MemreqError("no device to measure on")
        return self._simulating(self.card_for(gpu))

    def rehearsal_for(self, gpu: str | None) -> SimulatedMeter:
        """The meter that simulates a test before it is measured: on the same card, if known."""
        backend = self.backend()
        present = _known(None if backend is None else backend.card_name())
        return self._simulating(self.card_for(gpu or self._settings.gpu or present))

    def _simulating(self, card: str) -> SimulatedMeter:
        if card not in self._pretended:
            self._pretended[card] = SimulatedMeter(card)
        return self._pretended[card]

    def kind_of(self, gpu: str | None) -> str:
        """What tests share fixtures by: the card that is pretended, "" for a real one."""
        is_real = self._settings.mode in MEASURING or (
            self._settings.mode == "auto" and self.backend() is not None
        )
        return "" if is_real else self.card_for(gpu)

    def backend(self) -> Backend | None:
        """The device to measure on, None where there is none; looked for once."""
        if not self._has_looked:
            self._backend = self._config.hook.pytest_memreq_backend(config=self._config)
            self._has_looked = True
        return self._backend


def _known(gpu: str | None) -> str | None:
    try:
        return None if gpu is None else find_card(gpu).name
    except MemreqError:
        return None


def _environment(mode: Mode, gpu: str | None, gpu_bytes: int | None) -> Environment:
    from pytest_memreq.measure.versions import torch_versions  # imports torch

    torch, cuda = torch_versions()
    return Environment(
        mode=mode,
        gpu=gpu,
        gpu_bytes=gpu_bytes,
        torch=torch,
        cuda=cuda,
        allocator=_allocator(),
    )


def _allocator() -> str | None:
    """Settings of torch's caching allocator, by the first of its variables that is set."""
    names = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
    return next((os.environ[name] for name in names if os.environ.get(name)), None)
