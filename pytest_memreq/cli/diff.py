"""`memreq diff`: what two runs need, held against each other."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_memreq.cli.limits import CANNOT_TELL, DOES_NOT_FIT, FITS
from pytest_memreq.gate.baseline import Baseline
from pytest_memreq.gate.tolerance import FORM, OF_MEASURED, parse_tolerance
from pytest_memreq.reports.comparing import compare
from pytest_memreq.reports.diffs import FORMATS
from pytest_memreq.reports.reading import read_either
from pytest_memreq.reports.sides import Side, side_of_baseline, side_of_report
from pytest_memreq.requirement import METRICS

FILES = "memreq.json, a report's folder, or memreq-baseline.json"
CODES = {"within": FITS, "regressed": DOES_NOT_FIT, "unchecked": CANNOT_TELL}
EPILOG = """\
exit code: 0 nothing regressed, 1 a test needs more than is tolerated, 2 cannot tell (a run did not
finish, no test is in both, or a figure is not known), 4 usage
"""


def add_to(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its options."""
    parser.description = (
        "Compare two reports or baselines, test by test: what changed, and what it is."
    )
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    for name, what in (("base", "what it was before"), ("head", "what it is now")):
        parser.add_argument(
            name,
            metavar=name.upper(),
            help=f"{what}: {FILES}",
        )
    parser.add_argument("--format", choices=FORMATS, default="terminal")
    parser.add_argument("--metric", choices=METRICS, default="allocated", help="what is judged")
    parser.add_argument(
        "--tolerance",
        metavar="LIMIT",
        help=f"how far a figure may move, such as {FORM} (default: nothing where the same was "
        f"simulated, else {OF_MEASURED})".replace("%", "%%"),
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    given = arguments.tolerance
    diff = compare(
        _side(arguments.base),
        _side(arguments.head),
        metric=arguments.metric,
        tolerance=None if given is None else parse_tolerance(given, "--tolerance"),
    )
    print(FORMATS[arguments.format](diff), end="")
    return CODES[diff.status]


def _side(name: str) -> Side:
    read = read_either(Path(name))
    return (
        side_of_baseline(read, name) if isinstance(read, Baseline) else side_of_report(read, name)
    )
