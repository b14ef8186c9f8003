"""What finds out a test's requirement: a device, or a pretended one; made when first needed."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import pytest

from pytest_memreq.errors import MemreqError
from pytest_memreq.holdings import Held, LiveBlock
from pytest_memreq.measure.backends import Backend, Recording
from pytest_memreq.plugin.calibrating import CALIBRATION
from pytest_memreq.plugin.config import Settings
from pytest_memreq.plugin.progress import progress_of
from pytest_memreq.plugin.ranks import ranks_of
from pytest_memreq.requirement import Finding, Peak
from pytest_memreq.results import Environment, Mode
from pytest_memreq.simulate.cards import DEFAULT_CARD, find_card
from pytest_memreq.units import as_given

if TYPE_CHECKING:
    import torch

    from pytest_memreq.plugin.measuring import MeasuringMeter
    from pytest_memreq.plugin.simulating import SimulatedMeter

MEASURING = ("measure", "both")  # modes that are nothing without a device


# From a tensor to the user's line that made it, as `file:line`.
SourceOf = Callable[["torch.Tensor"], "str | None"]


@dataclass(slots=True)
class Span:
    """A stretch of a test; `peak` is known once it is over."""

    label: str
    peak: Peak | None = None


class Meter(Protocol):
    """One way to find out what a test needs.

    The order for each test: `prepare`, its setup, `start`, its call, `finding`, its teardown, all
    three phases within `active`. DeviceLostError where the device answers nothing any more.
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
        """Clean up, and begin to count."""

    def tidy(self) -> None:
        """Let go of what nothing uses."""

    def allocated_bytes(self) -> int:
        """What is allocated now."""

    def set_aside(self, blocks: Iterable[LiveBlock]) -> None:
        """Let nothing be put beside these blocks, until the next time."""

    def watch(self, blocks: Iterable[LiveBlock]) -> None:
        """Tell these blocks from those that will be where they are."""

    def paused(self) -> AbstractContextManager[None]:
        """What happens within it is in no peak, but for what it leaves."""

    def stamp(self) -> tuple[int, int]:
        """Allocations so far and what is allocated: where both are the same, nothing is new."""

    def live(self) -> tuple[LiveBlock, ...] | None:
        """The blocks in use; None where they cannot be told."""

    def start(self, held: Callable[[], Held]) -> None:
        """The peak starts from here; what others hold does not count, by `held` once it is read."""

    def finding(self) -> Finding:
        """What happened since `start`."""

    def span(self, label: str) -> AbstractContextManager[Span]:
        """A stretch of its own, which leaves the test's peak as it is."""

    def capped(self, limit_bytes: int | None) -> AbstractContextManager[bool]:
        """Within it the allocator holds no more than that besides what others left.

        False where it cannot be kept to it.
        """

    def recording(self) -> AbstractContextManager[Recording] | None:
        """Allocations with their sources, which are in the finding then; None where that is free.

        And None where it cannot be had.
        """

    def sources(self) -> AbstractContextManager[SourceOf]:
        """Within it, what says where a tensor was made; None of what it does not know."""


class Meters:
    """The meters of a process, each made once.

    `lost` says why nothing can be measured on the device that there is, "" if it can; `has_looked`
    is True once it is known which devices there are.
    """

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self.lost = ""
        self._config = config
        self._settings = settings
        self.ranks = ranks_of(os.environ)  # tests may set what they like
        self._pretended: dict[str, SimulatedMeter] = {}
        self._measuring: MeasuringMeter | None = None
        self._backends: tuple[Backend, ...] = ()
        self.has_looked = False

    def load(self) -> None:
        """Import what finding out will need, while there are only modules to be set aside."""
        is_real = self._settings.mode != "simulate" and bool(self.backends())
        if is_real:
            importlib.import_module("pytest_memreq.plugin.measuring")
        if not is_real or self._settings.mode == "both":
            importlib.import_module("pytest_memreq.plugin.simulating")

    def card_for(self, gpu: str | None) -> str:
        """The card that a test would be simulated on: its own, the run's, or the default."""
        return find_card(gpu or self._settings.gpu or DEFAULT_CARD).name

    def meter_for(self, gpu: str | None) -> Meter:
        """The meter of a test.

        Raises MemreqError where measuring was asked for and nothing can, or nothing can any more.
        """
        measuring = None if self._settings.mode == "simulate" else self.measuring()
        if self.lost:
            raise MemreqError(self.lost)
        if measuring is not None:
            return measuring
        if self._settings.mode in MEASURING:
            raise MemreqError(
                "no device to measure on; --memreq=auto simulates where there is none"
            )
        return self._simulating(self.card_for(gpu))

    def measuring(self) -> MeasuringMeter | None:
        """The meter of the devices that are there, None where there is none."""
        backends = self.backends()
        if self._measuring is None and backends:
            from pytest_memreq.plugin.measuring import MeasuringMeter

            self._measuring = MeasuringMeter(backends, self.ranks.world_size)
        return self._measuring

    def rehearsal_for(self, gpu: str | None) -> SimulatedMeter:
        """The meter that simulates a test before it is measured: on the same card, if known."""
        present = next((_known(backend.card_name()) for backend in self.backends()), None)
        return self._simulating(self.card_for(gpu or self._settings.gpu or present))

    def _simulating(self, card: str) -> SimulatedMeter:
        if card not in self._pretended:
            from pytest_memreq.plugin.simulating import SimulatedMeter

            calibration = self._config.stash[CALIBRATION]
            meter = self._pretended[card] = SimulatedMeter(card, self.ranks.world_size, calibration)
            progress = progress_of(self._config)
            if progress is not None:
                meter.tell(progress.told)
        return self._pretended[card]

    def kind_of(self, gpu: str | None) -> str:
        """What tests share fixtures by: the card that is pretended, "" for a real one."""
        is_real = self._settings.mode in MEASURING or (
            self._settings.mode == "auto" and bool(self.backends())
        )
        return "" if is_real else self.card_for(gpu)

    def used_bytes(self) -> int | None:
        """What all processes use of the first device, without touching it; None if not known."""
        backends = self.backends()
        return backends[0].used_bytes() if backends else None

    def backends(self) -> tuple[Backend, ...]:
        """The devices to measure on, the one in use first; looked for once."""
        if not self.has_looked:
            self.has_looked = True
            try:
                given = self._config.hook.pytest_memreq_backend(config=self._config)
                self._backends = _backends_in(given)
            except (MemreqError, RuntimeError) as error:  # there is one that cannot be measured on
                self.lost = str(error).partition("\n")[0]
        return self._backends


def _backends_in(given: object) -> tuple[Backend, ...]:
    """What the hook gave, None too; raises MemreqError where that is something else."""
    several = tuple(given) if isinstance(given, (list, tuple)) else (given,)
    found = () if given is None else several
    for each in found:
        if not isinstance(each, Backend):
            raise MemreqError(
                f"the hook pytest_memreq_backend gave {as_given(each)}; "
                "it gives a pytest_memreq.measure.backends.Backend, or a list of them"
            )
    return found


def _known(gpu: str) -> str | None:
    try:
        return find_card(gpu).name
    except MemreqError:
        return None


def environment_of(
    mode: Mode, gpu: str | None, gpu_bytes: int | None, world_size: int
) -> Environment:
    """Where figures come from, with the torch and the allocator of this process."""
    from pytest_memreq.measure.versions import torch_versions  # imports torch

    torch, cuda = torch_versions()
    return Environment(
        mode=mode,
        gpu=gpu,
        gpu_bytes=gpu_bytes,
        torch=torch,
        cuda=cuda,
        allocator=allocator_settings(),
        world_size=world_size,
    )


def allocator_settings() -> str | None:
    """Settings of torch's caching allocator, by the first of its variables that is set."""
    names = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
    return next((os.environ[name] for name in names if os.environ.get(name)), None)
