"""`memreq diff`: what two runs need, held against each other."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_memreq.cli.limits import CANNOT_TELL, DOES_NOT_FIT, FITS
from pytest_memreq.errors import MemreqError
from pytest_memreq.reports.comparing import Side, compare, side_of
from pytest_memreq.reports.diffs import FORMATS
from pytest_memreq.reports.reading import read_results
from pytest_memreq.requirement import METRICS
from pytest_memreq.units import parse_limit

CODES = {"within": FITS, "regressed": DOES_NOT_FIT, "unchecked": CANNOT_TELL}
EPILOG = """\
exit code: 0 nothing regressed, 1 a test needs more than is tolerated, 2 cannot tell (a run did not
finish, no test is in both, or a figure is not known), 4 usage
"""


def add_to(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its options."""
    parser.description = "Compare two reports, test by test: what changed, and what it is."
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    for name, what in (("base", "what it was before"), ("head", "what it is now")):
        parser.add_argument(
            name, metavar=name.upper(), help=f"{what}: memreq.json, or a report's folder"
        )
    parser.add_argument("--format", choices=FORMATS, default="terminal")
    parser.add_argument("--metric", choices=METRICS, default="allocated", help="what is judged")
    parser.add_argument(
        "--tolerance",
        metavar="SIZE",
        default="0",
        help='how far it may move: "2 MiB", or "1%%" of the base (default 0)',
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    diff = compare(
        _side(arguments.base),
        _side(arguments.head),
        metric=arguments.metric,
        tolerance=_tolerance(arguments.tolerance),
    )
    print(FORMATS[arguments.format](diff), end="")
    return CODES[diff.status]


def _side(name: str) -> Side:
    return side_of(read_results(Path(name)), name)


def _tolerance(given: str) -> int | float:
    try:
        return parse_limit(given)
    except MemreqError as error:
        raise MemreqError(f"--tolerance: {error}") from None
