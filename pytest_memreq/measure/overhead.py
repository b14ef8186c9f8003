"""What metering costs: of a step's time, of each test's, and of the device."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from pytest_memreq.measure.backends import Backend
from pytest_memreq.measure.meter import DeviceMeter
from pytest_memreq.measure.selftest import Outcome, Workload, measure

if TYPE_CHECKING:
    import torch

PAIRS = 15
STRETCH_SECONDS = 0.05  # long beside the clock's grain and what starting the first kernel takes
MOST_STEPS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """Medians over pairs, one without the meter and one with it right after or before.

    `added_share` is what the meter adds to a step, and `noise_share` how far half of the pairs are
    from that. `prepare_seconds` (`prepare` and `tidy`) and `around_seconds` (`start` and
    `finding`) are taken once a test, and `refill_seconds` by its first step, as `prepare` leaves
    the allocator nothing in store.
    """

    workload: str
    steps: int
    step_seconds: float
    metered_seconds: float
    added_share: float
    noise_share: float
    prepare_seconds: float
    around_seconds: float
    refill_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """What the allocators of all devices hold once nothing is in use; None is not known."""

    allocated_bytes: int
    reserved_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stretch:
    prepare_seconds: float
    around_seconds: float
    first_seconds: float
    step_seconds: float


class Stopwatch:
    """Times steps of one workload, the device's own work included."""

    def __init__(self, meter: DeviceMeter, backend: Backend, workload: Workload) -> None:
        self._meter = meter
        self._backend = backend
        self._device = backend.device()
        self._workload = workload

    def step_time(self) -> StepTime:
        """Time pairs of stretches of equal length."""
        self._meter.prepare()
        self._run(1)  # the first ever, which loads what is loaded once
        steps = max(1, min(MOST_STEPS, round(STRETCH_SECONDS / self._run(1))))
        pairs = [self._pair(steps, plain_first=turn % 2 == 0) for turn in range(PAIRS)]
        plain, metered = zip(*pairs, strict=True)
        shares = [m.step_seconds / p.step_seconds - 1 for p, m in pairs]
        return StepTime(
            workload=self._workload.name,
            steps=steps,
            step_seconds=_median(plain, lambda s: s.step_seconds),
            metered_seconds=_median(metered, lambda s: s.step_seconds),
            added_share=median(shares),
            noise_share=median(abs(share - median(shares)) for share in shares),
            prepare_seconds=_median(metered, lambda s: s.prepare_seconds),
            around_seconds=_median(metered, lambda s: s.around_seconds),
            refill_seconds=_median(metered, lambda s: max(0, s.first_seconds - s.step_seconds)),
        )

    def _pair(self, steps: int, *, plain_first: bool) -> tuple[_Stretch, _Stretch]:
        if plain_first:
            plain = self._stretch(steps, is_metered=False)
            return plain, self._stretch(steps, is_metered=True)
        metered = self._stretch(steps, is_metered=True)
        return self._stretch(steps, is_metered=False), metered

    def _stretch(self, steps: int, *, is_metered: bool) -> _Stretch:
        """Both kinds begin alike: tidied, garbage collected, one step to fill the store again."""
        prepare_seconds = _timed(self._meter.prepare) + _timed(self._meter.tidy)
        start_seconds = _timed(self._meter.start) if is_metered else 0.0
        first_seconds = self._run(1)
        total_seconds = self._run(steps)
        finding_seconds = _timed(self._meter.finding) if is_metered else 0.0
        return _Stretch(
            prepare_seconds=prepare_seconds,
            around_seconds=start_seconds + finding_seconds,
            first_seconds=first_seconds,
            step_seconds=total_seconds / steps,
        )

    def _run(self, steps: int) -> float:
        def work() -> None:
            for _ in range(steps):
                _call(self._workload, self._device)
            self._backend.synchronize()

        return _timed(work)


def own_peak(meter: DeviceMeter, device: torch.device) -> Outcome:
    """The peaks of nothing: what the meter itself allocates between `start` and `finding`."""
    nothing = Workload(name="nothing", run=lambda _: None)
    return measure(meter, device, nothing)


def levels(meter: DeviceMeter, backends: Sequence[Backend]) -> Levels:
    """Tidy up, and look what is left."""
    meter.prepare()
    reserved = [backend.reserved_bytes() for backend in backends]
    known = [size for size in reserved if size is not None]
    return Levels(
        allocated_bytes=sum(backend.allocated_bytes() for backend in backends),
        reserved_bytes=sum(known) if len(known) == len(reserved) else None,
    )


def _call(workload: Workload, device: torch.device) -> None:
    try:
        workload.run(device)
    except workload.raises as error:
        traceback.clear_frames(error.__traceback__)


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _median(stretches: Sequence[_Stretch], of: Callable[[_Stretch], float]) -> float:
    return median(map(of, stretches))
