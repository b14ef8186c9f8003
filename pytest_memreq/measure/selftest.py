"""Whether the meter gives the same peaks every time: workloads measured alone and in many orders.

A meter's figure must not depend on what ran before. So each workload is measured in a process of
its own and, in this one, after the others in orders that change; all must agree to the byte.
"""

from __future__ import annotations

import random
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pytest_memreq.measure.meter import DeviceMeter
from pytest_memreq.requirement import Metric, Peak

if TYPE_CHECKING:
    import torch

Circumstance = Literal["alone", "first", "between", "last"]
CIRCUMSTANCES: tuple[Circumstance, ...] = ("alone", "first", "between", "last")
# Not `device`: libraries load their kernels when first used, and that stays for the process.
JUDGED: tuple[Metric, ...] = ("requested", "allocated", "reserved")
SEED = 20


def always_usable(_: torch.device) -> str:
    """What most workloads need is there on every device."""
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Work that allocates the same each time and leaves nothing that is still referenced.

    `raises` are the errors that it must end in, if any. `unusable` says why it cannot run on a
    device, "" where it can.
    """

    name: str
    run: Callable[[torch.device], object]
    raises: tuple[type[Exception], ...] = ()
    unusable: Callable[[torch.device], str] = always_usable


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one measurement gave: a peak, or why there is none."""

    peak: Peak | None = None
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """An outcome and how it came about: `after` is what was measured before it in its process."""

    circumstance: Circumstance
    outcome: Outcome
    after: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A figure that is not the one that a workload most often had."""

    metric: Metric
    circumstance: Circumstance
    after: str | None
    usual_bytes: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Every measurement of one workload; `skipped` says why there is none."""

    name: str
    measurements: tuple[Measurement, ...] = ()
    skipped: str = ""

    @property
    def failures(self) -> tuple[str, ...]:
        """What went wrong, each with its circumstance."""
        return tuple(
            f"{measurement.circumstance}: {measurement.outcome.failure}"
            for measurement in self.measurements
            if measurement.outcome.failure
        )

    @property
    def peak(self) -> Peak | None:
        """The largest of each metric, None without a measurement."""
        peaks = [peak for m in self.measurements if (peak := m.outcome.peak) is not None]
        return None if not peaks else _largest(peaks)

    @property
    def is_steady(self) -> bool:
        """True if nothing failed and no two measurements differ in what is judged."""
        return not self.failures and not self.differences

    @property
    def differences(self) -> tuple[Difference, ...]:
        """Of the metrics that are judged, in the order of measuring."""
        return tuple(found for metric in JUDGED for found in self._differences(metric))

    def spread_bytes(self, metric: Metric) -> int | None:
        """Largest less smallest; None where the device does not tell."""
        sizes = [size for _, size in self._sizes(metric)]
        return max(sizes) - min(sizes) if sizes else None

    def count(self, circumstance: Circumstance) -> int:
        """How often it was measured so."""
        return sum(m.circumstance == circumstance for m in self.measurements)

    def _sizes(self, metric: Metric) -> list[tuple[Measurement, int]]:
        known = [(m, m.outcome.peak) for m in self.measurements if m.outcome.peak is not None]
        sizes = [(measurement, peak.of(metric)) for measurement, peak in known]
        return [(measurement, size) for measurement, size in sizes if size is not None]

    def _differences(self, metric: Metric) -> Iterator[Difference]:
        sizes = self._sizes(metric)
        if not sizes:
            return
        [(usual_bytes, _)] = Counter(size for _, size in sizes).most_common(1)
        for measurement, size_bytes in sizes:
            if size_bytes != usual_bytes:
                yield Difference(
                    metric=metric,
                    circumstance=measurement.circumstance,
                    after=measurement.after,
                    usual_bytes=usual_bytes,
                    bytes=size_bytes,
                )


def measure(meter: DeviceMeter, device: torch.device, workload: Workload) -> Outcome:
    """Measure once, as a test is; the frames of an error that is its own are cleared afterwards."""
    meter.prepare()
    meter.tidy()  # as after a test's setup
    meter.start()
    failure, raised = "", None
    try:
        workload.run(device)
    except workload.raises as error:
        raised = error
    except RuntimeError as error:  # torch's own errors, a full card among them
        failure = _described(error)
    peak = meter.finding().peak  # of what `raised` holds too, as where a test fails
    if raised is not None:
        traceback.clear_frames(raised.__traceback__)
    elif workload.raises and not failure:
        failure = f"did not raise {workload.raises[0].__name__}"
    return Outcome(failure=failure) if failure else Outcome(peak=peak)


def measure_all(
    meter: DeviceMeter,
    device: torch.device,
    workloads: Sequence[Workload],
    *,
    alone: Callable[[Workload], Outcome],
    repeats: int,
    say: Callable[[str], None],
    seed: int = SEED,
) -> tuple[Report, ...]:
    """Measure each workload `repeats` times: once by `alone`, then in rounds of all that can run.

    `alone` measures one in a process of its own. Raises DeviceLostError.
    """
    skipped = {workload.name: workload.unusable(device) for workload in workloads}
    usable = [workload for workload in workloads if not skipped[workload.name]]
    found: dict[str, list[Measurement]] = {workload.name: [] for workload in workloads}
    for workload in usable:
        say(f"{workload.name}: alone, in a process of its own")
        found[workload.name].append(Measurement(circumstance="alone", outcome=alone(workload)))
    rounds = orders(usable, repeats - 1, seed)
    for name, measurement in _in_rounds(meter, device, rounds, say):
        found[name].append(measurement)
    return tuple(
        Report(name=name, measurements=tuple(measurements), skipped=skipped[name])
        for name, measurements in found.items()
    )


def orders(
    workloads: Sequence[Workload], rounds: int, seed: int = SEED
) -> tuple[tuple[Workload, ...], ...]:
    """An order for each round: each workload in turn is first and last, those between shuffled."""
    shuffler = random.Random(seed)  # noqa: S311  # the same orders wherever it runs
    return tuple(_order(workloads, turn, shuffler) for turn in range(rounds))


def _order(
    workloads: Sequence[Workload], turn: int, shuffler: random.Random
) -> tuple[Workload, ...]:
    count = len(workloads)
    if count < 2:
        return tuple(workloads)
    first, last = turn % count, (turn - 1) % count
    between = [workloads[at] for at in range(count) if at not in (first, last)]
    shuffler.shuffle(between)
    return (workloads[first], *between, workloads[last])


def _in_rounds(
    meter: DeviceMeter,
    device: torch.device,
    rounds: Sequence[Sequence[Workload]],
    say: Callable[[str], None],
) -> Iterator[tuple[str, Measurement]]:
    after = None
    for turn, order in enumerate(rounds, start=1):
        say(f"round {turn} of {len(rounds)}: {', '.join(workload.name for workload in order)}")
        for at, workload in enumerate(order):
            yield (
                workload.name,
                Measurement(
                    circumstance=_circumstance(at, len(order)),
                    outcome=measure(meter, device, workload),
                    after=after,
                ),
            )
            after = workload.name


def _circumstance(at: int, count: int) -> Circumstance:
    if at == 0:
        return "first"
    return "last" if at == count - 1 else "between"


def _described(error: RuntimeError) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    said = str(error).partition("\n")[0] or "no message"
    return f"{type(error).__name__} in {where.name}: {said}"


def _largest(peaks: Sequence[Peak]) -> Peak:
    largest = Peak()
    for peak in peaks:
        largest = largest.larger(peak)
    return largest
