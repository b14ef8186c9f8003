"""`memreq render`: the reports of a run made once more, from its JSON file or its journal."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import cast

from pytest_memreq.choices import JUNIT_FAMILIES, VENDORS, Vendor
from pytest_memreq.cli.limits import CANNOT_TELL, DOES_NOT_FIT, FITS
from pytest_memreq.reports import markdown, terminal
from pytest_memreq.reports.annotations import (
    annotation_lines,
    place_of,
    vendor_of,
)
from pytest_memreq.reports.files import append, write_reports
from pytest_memreq.reports.restoring import restored
from pytest_memreq.reports.style import Style
from pytest_memreq.results import Results, TestResult

EPILOG = """\
exit code: 0 every budget was kept, 1 a test needs more than it may, 2 cannot tell (the run did not
finish, nothing was checked, or a test that had to be checked was not), 4 usage
"""


def add_to(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its options."""
    parser.description = (
        "Make the reports of a run once more and print what they say; of a run that was killed, "
        "from its journal."
    )
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "directory",
        metavar="DIR",
        type=Path,
        nargs="?",
        default=Path("memreq-report"),
        help="the report directory (default: memreq-report)",
    )
    parser.add_argument(
        "--summary",
        metavar="FILE",
        type=Path,
        help="append the Markdown to this file, as to $GITHUB_STEP_SUMMARY",
    )
    parser.add_argument("--junit-family", choices=JUNIT_FAMILIES, default="strict")
    parser.add_argument(
        "--annotations",
        choices=("auto", *VENDORS),
        help="print lines that show verdicts beside tests: in this runner's form, or that of the "
        "one that this is (auto)",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    results = restored(arguments.directory)
    write_reports(arguments.directory, results, Style(junit_family=arguments.junit_family))
    if arguments.summary is not None:
        append(arguments.summary, markdown.render(results))
    for line in terminal.render(results, width=shutil.get_terminal_size().columns):
        print(line.text)
    for text in _annotations(results, arguments.annotations):
        print(text)
    return exit_code(results)


def exit_code(results: Results) -> int:
    """What EPILOG says of a report."""
    return next((code for holds, code in CODES if holds(results)), FITS)


def _annotations(results: Results, asked: str | None) -> tuple[str, ...]:
    """Files of tests are taken to be as seen from the working directory."""
    vendor = vendor_of(os.environ) if asked == "auto" else asked
    if vendor is None:
        return ()
    named = cast("Vendor", vendor)  # as the parser chooses
    return annotation_lines(results, named, place_of(Path(), named, os.environ))


def _is_incomplete(results: Results) -> bool:
    return results.status == "incomplete"


def _has_outgrown(results: Results) -> bool:
    return any(test.verdict in ("over", "regressed") for test in _held_to(results))


def _has_open(results: Results) -> bool:
    """True where a test failed, and not by what it needs: that may be more than it got to."""
    return any(test.outcome == "failed" for test in _held_to(results))


def _has_no_check(results: Results) -> bool:
    return not any(test.is_checked for test in results.tests)


def _held_to(results: Results) -> list[TestResult]:
    """All but the tests that may fail, and those that were let off."""
    return [test for test in results.tests if test.outcome not in ("skipped", "xfailed")]


CODES: tuple[tuple[Callable[[Results], bool], int], ...] = (
    (_is_incomplete, CANNOT_TELL),
    (_has_outgrown, DOES_NOT_FIT),
    (_has_open, CANNOT_TELL),
    (_has_no_check, CANNOT_TELL),
)
