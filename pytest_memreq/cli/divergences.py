"""`memreq validate REPORT...`: simulations beside what was measured of the same tests."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pytest_memreq.cli.limits import CANNOT_TELL, DOES_NOT_FIT, FITS
from pytest_memreq.cli.tables import aligned
from pytest_memreq.gate.divergence import BOUND, Pair, pairs
from pytest_memreq.gate.tolerance import FORM, Tolerance, parse_tolerance
from pytest_memreq.reports.reading import read_results
from pytest_memreq.reports.text import visible
from pytest_memreq.requirement import METRICS
from pytest_memreq.results import Results
from pytest_memreq.strict_json import to_text
from pytest_memreq.units import format_size

HEAD = ("Test", "Metric", "Simulated", "Measured", "Difference", "On")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A metric of one test."""

    nodeid: str
    gpu: str | None
    pair: Pair


def add_to(parser: argparse.ArgumentParser) -> None:
    """Describe the part of `validate` that reads reports."""
    parser.add_argument(
        "reports",
        metavar="REPORT",
        type=Path,
        nargs="*",
        help="memreq.json, or its directory, of runs with --memreq=both: how far simulations are "
        "from what was measured",
    )
    parser.add_argument(
        "--divergence",
        metavar="LIMIT",
        help=f"how far they may be (default: {str(BOUND).replace('%', '%%')}), "
        f"such as {FORM.replace('%', '%%')}",
    )


def validate_reports(arguments: argparse.Namespace) -> int:
    """Print pairs and what they add up to; 0 where all are within the bound, 2 without any."""
    bound = BOUND
    if arguments.divergence is not None:
        bound = parse_tolerance(arguments.divergence, "--divergence")
    reports = [read_results(path) for path in arguments.reports]
    if any(results.status == "incomplete" for results in reports):
        print("memreq: cannot tell: a report is of a run that did not finish", file=sys.stderr)
        return CANNOT_TELL
    rows = [row for results in reports for row in _rows(results, bound)]
    if arguments.json:
        print(to_text([_to_dict(row) for row in rows], indent=1))
    else:
        print("\n".join(_lines(rows, bound)))
    if not rows:
        return CANNOT_TELL
    return DOES_NOT_FIT if any(row.pair.is_beyond for row in rows) else FITS


def _to_dict(row: Row) -> dict[str, object]:
    return {"nodeid": row.nodeid, "gpu": row.gpu, **asdict(row.pair)}


def _rows(results: Results, bound: Tolerance) -> Iterator[Row]:
    """Every metric that was both simulated and measured, of tests that came through both."""
    for test in results.tests:
        said = test.simulated
        if said is None or said.reason or test.mode != "measured" or test.verdict == "error":
            continue
        gpu = test.gpu or results.environment.gpu
        for pair in pairs(said.peak, test.peak, bound):
            yield Row(nodeid=test.nodeid, gpu=gpu, pair=pair)


def _lines(rows: Sequence[Row], bound: Tolerance) -> Iterator[str]:
    if not rows:
        yield "no test was both simulated and measured; run pytest --memreq=both --memreq-report"
        return
    yield from aligned([list(HEAD), *map(_cells, rows)], numbers=range(2, 5))
    yield ""
    for metric in METRICS:
        of_metric = [row.pair for row in rows if row.pair.metric == metric]
        if of_metric:
            yield _summary(metric, of_metric, bound)


def _cells(row: Row) -> list[str]:
    pair = row.pair
    return [
        visible(row.nodeid),
        pair.metric,
        format_size(pair.simulated_bytes),
        format_size(pair.measured_bytes),
        f"{pair.difference_bytes:+,} bytes ({pair.share:+.2%}){' !' * pair.is_beyond}",
        visible(row.gpu or "?"),
    ]


def _summary(metric: str, pairs: Sequence[Pair], bound: Tolerance) -> str:
    shares = [abs(pair.share) for pair in pairs]
    exact = sum(pair.difference_bytes == 0 for pair in pairs)
    outside = sum(pair.is_beyond for pair in pairs)
    return (
        f"{metric}: {len(pairs)} tests, {exact} equal to the byte, median difference "
        f"{statistics.median(shares):.2%}, largest {max(shares):.2%}; "
        f"{outside} further apart than {bound}"
    )
