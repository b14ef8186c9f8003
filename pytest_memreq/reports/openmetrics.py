"""`metrics.txt`: the figures as OpenMetrics, for GitLab's metrics reports and for Prometheus.

https://prometheus.io/docs/specs/om/open_metrics_spec/ What is not known has no line. GitLab's
parser cuts a line at a `#` and splits the rest as a shell would, so labels have no character that
either of them heeds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pytest_memreq.reports.text import digest
from pytest_memreq.requirement import METRICS, Peak
from pytest_memreq.results import Results, TestResult

LABEL_CHARACTERS = 900
_UNSAFE = re.compile(r"[^A-Za-z0-9_./:\[\]-]")

Labels = dict[str, str]
Sample = tuple[Labels, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A gauge: its name, which ends in its unit if it has one, and what its samples are."""

    name: str
    told: str
    samples: Callable[[Results], Iterator[Sample]]
    unit: str = ""


def render(results: Results) -> str:
    """Every family, with at most one sample for the same labels."""
    lines = [line for family in FAMILIES for line in _lines(family, results)]
    return "\n".join([*lines, "# EOF"]) + "\n"


def _lines(family: Family, results: Results) -> Iterator[str]:
    yield f"# TYPE {family.name} gauge"
    if family.unit:
        yield f"# UNIT {family.name} {family.unit}"
    yield f"# HELP {family.name} {family.told}"
    # A series twice is not valid: of two that look the same, it is the later one.
    series = {_series(family.name, labels): value for labels, value in family.samples(results)}
    yield from (f"{name} {value}" for name, value in series.items())


def _series(name: str, labels: Labels) -> str:
    pairs = ",".join(f'{label}="{_safe(value)}"' for label, value in labels.items())
    return f"{name}{{{pairs}}}" if pairs else name


def _safe(value: str) -> str:
    """The value; one that has other characters, or too many, ends in its digest instead."""
    shown = _UNSAFE.sub("_", value)
    if shown == value and len(value) <= LABEL_CHARACTERS:
        return value
    told = digest(value)
    return f"{shown[: LABEL_CHARACTERS - len(told) - 1]}-{told}"


def _of_peaks(peak_of: Callable[[TestResult], Peak | None]) -> Callable[..., Iterator[Sample]]:
    def samples(results: Results) -> Iterator[Sample]:
        for test in results.tests:
            peak = peak_of(test) or Peak()
            sizes = [(metric, peak.of(metric)) for metric in METRICS]
            yield from _known(sizes, "metric", test, results)

    return samples


def _breakdowns(results: Results) -> Iterator[Sample]:
    for test in results.tests:
        if test.breakdown is not None:
            yield from _known(test.breakdown.items(), "word", test, results)


def _known(
    sizes: Sequence[tuple[str, int | None]], label: str, test: TestResult, results: Results
) -> Iterator[Sample]:
    gpu = (test.gpu or results.environment.gpu or "").replace(" ", "_")  # all cards have blanks
    for name, size in sizes:
        labels = {"test": test.nodeid, label: name, "mode": test.mode, "gpu": gpu}
        if size is not None:
            yield {key: value for key, value in labels.items() if value}, size


def _verdicts(results: Results) -> Iterator[Sample]:
    for word, count in results.summary().items():
        yield {"verdict": word}, count


def _complete(results: Results) -> Iterator[Sample]:
    yield {}, int(results.status == "complete")


def _together(results: Results) -> Iterator[Sample]:
    for each in results.together:
        for metric in METRICS:
            size = each.peak.of(metric)
            if size is not None:
                yield {"card": str(each.card), "metric": metric}, size


def _budget(test: TestResult) -> Peak:
    return Peak(**{key: test.budget.get(key) for key in (f"{m}_bytes" for m in METRICS)})


def _before(test: TestResult) -> Peak | None:
    return None if test.baseline is None else test.baseline.peak


FAMILIES = (
    Family(
        name="memreq_complete",
        told="1 where the run finished, 0 where figures are missing.",
        samples=_complete,
    ),
    Family(name="memreq_tests", told="Checked tests by their verdict.", samples=_verdicts),
    Family(
        name="memreq_peak_bytes",
        told="What a test needed at most.",
        samples=_of_peaks(lambda test: test.peak),
        unit="bytes",
    ),
    Family(
        name="memreq_budget_bytes",
        told="What a test may need.",
        samples=_of_peaks(_budget),
        unit="bytes",
    ),
    Family(
        name="memreq_baseline_bytes",
        told="What a test needed before.",
        samples=_of_peaks(_before),
        unit="bytes",
    ),
    Family(
        name="memreq_breakdown_bytes",
        told="What was live at the peak of allocated, by what held it.",
        samples=_breakdowns,
        unit="bytes",
    ),
    Family(
        name="memreq_together_bytes",
        told="What tests that ran at the same time needed of a card together, at most.",
        samples=_together,
        unit="bytes",
    ),
)
