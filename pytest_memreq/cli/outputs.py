"""`memreq outputs`: a report's verdicts as lines for $GITHUB_OUTPUT."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_memreq.cli.limits import FITS
from pytest_memreq.reports import outputs
from pytest_memreq.reports.reading import read_results


def add_to(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its options."""
    parser.description = (
        "Print a report's outcome and verdict counts as name=value, for >>$GITHUB_OUTPUT. No name "
        "of a test is among them. Exit code: 0, or 4 where there is no report."
    )
    parser.add_argument("report", metavar="REPORT", type=Path, help="memreq.json, or its directory")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    print(outputs.render(read_results(arguments.report)), end="")
    return FITS
