"""What `memreq validate` found, as JSON and as text for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pytest_memreq.cli.tables import aligned
from pytest_memreq.measure.overhead import Levels, StepTime
from pytest_memreq.measure.selftest import (
    CIRCUMSTANCES,
    JUDGED,
    SEED,
    Difference,
    Measurement,
    Outcome,
    Report,
)
from pytest_memreq.requirement import METRICS, Peak
from pytest_memreq.units import format_size

SHOWN = 5  # failures or differences of one workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the figures hold for; nothing tells whose machine it is."""

    gpu: str
    gpu_bytes: int | None
    driver: str | None
    torch: str
    cuda: str | None
    python: str
    allocator: str | None
    date: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Steadiness:
    """All of a self-test: `own` are the peaks of nothing, measured."""

    machine: Machine
    repeats: int
    reports: tuple[Report, ...]
    times: tuple[StepTime, ...]
    own: Outcome
    before: Levels
    after: Levels

    @property
    def is_steady(self) -> bool | None:
        """None where not one workload could run."""
        if all(report.skipped for report in self.reports):
            return None
        return all(report.is_steady for report in self.reports)


def as_document(found: Steadiness) -> dict[str, Any]:
    """Everything, as plain values for JSON."""
    times = {time.workload: asdict(time) for time in found.times}
    return {
        "format": 1,
        "is_steady": found.is_steady,
        **asdict(found.machine),
        "repeats": found.repeats,
        "seed": SEED,
        "workloads": [
            {**_report(report), "time": times.get(report.name)} for report in found.reports
        ],
        "meter": {
            "own_peak": _sizes(found.own.peak),
            "before": asdict(found.before),
            "after": asdict(found.after),
        },
    }


def _report(report: Report) -> dict[str, Any]:
    return {
        "name": report.name,
        "skipped": report.skipped or None,
        "is_steady": None if report.skipped else report.is_steady,
        "peak": _sizes(report.peak),
        "spread": {f"{metric}_bytes": report.spread_bytes(metric) for metric in METRICS},
        "failures": list(report.failures),
        "differences": [asdict(difference) for difference in report.differences],
        "measurements": [_measurement(measurement) for measurement in report.measurements],
    }


def _measurement(measurement: Measurement) -> dict[str, Any]:
    return {
        "circumstance": measurement.circumstance,
        "after": measurement.after,
        "peak": _sizes(measurement.outcome.peak),
        "failure": measurement.outcome.failure or None,
    }


def _sizes(peak: Peak | None) -> dict[str, int | None] | None:
    return None if peak is None else asdict(peak)


def as_text(found: Steadiness) -> list[str]:
    """The machine, the peaks, what was not the same, the overhead."""
    return [
        _machine(found.machine),
        _plan(found),
        "",
        *_peaks([report for report in found.reports if report.measurements]),
        *(
            f"{report.name}: skipped: {report.skipped}"
            for report in found.reports
            if report.skipped
        ),
        *(line for report in found.reports for line in _troubles(report)),
        "",
        *(_overhead(found.times) if found.times else []),
        *_own(found),
    ]


VERDICTS = {
    True: "steady: each workload had the same requested, allocated and reserved peak every time",
    False: "not steady: a workload failed, or its peaks were not the same every time",
    None: "cannot tell: no workload could run",
}


def _machine(machine: Machine) -> str:
    size = None if machine.gpu_bytes is None else format_size(machine.gpu_bytes)
    cuda = machine.cuda and f"CUDA {machine.cuda}"
    driver = machine.driver and f"driver {machine.driver}"
    torch, python = f"torch {machine.torch}", f"Python {machine.python}"
    return ", ".join(filter(None, [machine.gpu, size, driver, torch, cuda, python]))


def _plan(found: Steadiness) -> str:
    return (
        f"each workload {found.repeats} times: alone in a process of its own, then in "
        f"{found.repeats - 1} rounds of all, in turn first and last, shuffled with seed {SEED}"
    )


def _peaks(reports: Sequence[Report]) -> list[str]:
    head = ["Workload", "Peak allocated", *METRICS, "Measured", "Differed"]
    rows = [
        [
            report.name,
            "?" if report.peak is None else _size(report.peak.allocated_bytes),
            *(_exact(report.spread_bytes(metric)) for metric in METRICS),
            str(len(report.measurements)),
            _differed(report),
        ]
        for report in reports
    ]
    if not rows:
        return []
    table = aligned([head, *rows], numbers=range(1, len(head) - 1))
    return ["Peak allocated, and the largest less the smallest peak of each metric:", *table]


def _differed(report: Report) -> str:
    """The circumstances with a figure that was not the usual one, and how often of how many."""
    odd = {(d.circumstance, d.after) for d in report.differences}
    times = [
        (
            one,
            sum(
                (m.circumstance, m.after) in odd
                for m in report.measurements
                if m.circumstance == one
            ),
        )
        for one in CIRCUMSTANCES
    ]
    return ", ".join(f"{one} {n} of {report.count(one)}" for one, n in times if n) or "-"


def _troubles(report: Report) -> list[str]:
    lines = [f"failed {failure}" for failure in report.failures]
    lines += map(_difference, report.differences)
    more = [f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return [f"{report.name}: {line}" for line in [*lines[:SHOWN], *more]]


def _difference(found: Difference) -> str:
    after = f" after {found.after}" if found.after else ""
    return (
        f"{found.metric} {found.bytes:,} B {found.circumstance}{after}, "
        f"else {found.usual_bytes:,} B ({found.bytes - found.usual_bytes:+,} B)"
    )


def _overhead(times: Sequence[StepTime]) -> list[str]:
    head = ["Workload", "Step", "With the meter", "Added", "Noise"]
    head += ["prepare", "start, finding", "Refill"]
    rows = [
        [
            time.workload,
            _ms(time.step_seconds),
            _ms(time.metered_seconds),
            f"{time.added_share:+.2%}",
            f"{time.noise_share:.2%}",
            _ms(time.prepare_seconds),
            _ms(time.around_seconds),
            _ms(time.refill_seconds),
        ]
        for time in times
    ]
    return [
        "Medians. Once a test: prepare, start, finding, and a first step that fills the cache.",
        *aligned([head, *rows], numbers=range(1, len(head))),
        "",
    ]


def _own(found: Steadiness) -> list[str]:
    peak, before, after = found.own.peak or Peak(), found.before, found.after
    own = ", ".join(f"{metric} {_exact(peak.of(metric))}" for metric in JUDGED)
    allocated = _left(before.allocated_bytes, after.allocated_bytes)
    reserved = _left(before.reserved_bytes, after.reserved_bytes)
    return [
        f"of the device for the meter itself: {own}",
        f"more on the device after all of it: allocated {allocated}, reserved {reserved}",
    ]


def _left(before: int | None, after: int | None) -> str:
    return _exact(None if before is None or after is None else after - before)


def _size(size_bytes: int | None) -> str:
    return "?" if size_bytes is None else format_size(size_bytes)


def _exact(size_bytes: int | None) -> str:
    return "?" if size_bytes is None else f"{size_bytes:,} B"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3f} ms"
