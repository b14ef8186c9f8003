"""`memreq merge`: the reports of shards, jobs and ranks as one."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pytest_memreq.cli.render import EPILOG, exit_code
from pytest_memreq.errors import MemreqError
from pytest_memreq.reports import terminal
from pytest_memreq.reports.files import is_absent, is_directory, write_reports
from pytest_memreq.reports.journal import NAME as JOURNAL
from pytest_memreq.reports.merging import Merged, Part, merge
from pytest_memreq.reports.reading import NAME, read_results
from pytest_memreq.reports.restoring import journals_of_ranks, restored
from pytest_memreq.reports.style import Style
from pytest_memreq.reports.text import visible

OUTPUT = Path("memreq-merged")


def add_to(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its options."""
    parser.description = (
        "Make one report of several: of the shards of a suite, of jobs that measured and simulated "
        "the same tests, or of the ranks of one run that share no directory. The order does not "
        "matter. What is in several, and what is missing, is said."
    )
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "reports",
        metavar="REPORT",
        type=Path,
        nargs="+",
        help="a report directory, or a memreq.json; one that is not there is a missing shard",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        default=OUTPUT,
        help=f"where the report goes (default: {OUTPUT})",
    )
    parser.add_argument(
        "--expect",
        metavar="N",
        type=int,
        help="how many reports there have to be; with fewer the report is incomplete",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    merged = _merged(arguments.reports, arguments.expect)
    write_reports(arguments.output, merged.results, Style())
    for line in terminal.render(merged.results, width=shutil.get_terminal_size().columns):
        print(line.text)
    for notice in merged.notices:
        print(f"memreq: {visible(notice)}", file=sys.stderr)
    return exit_code(merged.results)


def _merged(paths: Sequence[Path], expected: int | None) -> Merged:
    given = {_same(path): path for path in paths}  # a report that is named twice is one
    there = [path for path in given.values() if not is_absent(path)]
    missing = [f"{path}: is missing" for path in given.values() if is_absent(path)]
    if expected is not None and expected < len(given):
        raise MemreqError(f"--expect {expected}: {len(given)} reports are named")
    if expected is not None and len(given) < expected:
        missing.append(f"{expected - len(given)} of {expected} reports are missing")
    if not there:
        raise MemreqError(f"{paths[0]}: there is no report there, nor at any other that is named")
    return merge(_parts(there), missing)


def _same(path: Path) -> Path:
    """A report, be it named by its directory or its file."""
    return (path.parent if path.name == NAME else path).absolute()


def _parts(paths: Sequence[Path]) -> Iterator[Part]:
    """A part a run; a directory with nothing but ranks has no run of its own."""
    directories = [path for path in paths if is_directory(path)]
    ranks = [path for path in directories if _has_ranks_alone(path)]
    for path in [path for path in paths if path not in ranks] or ranks[:1]:
        results = restored(path, *ranks) if path in directories else read_results(path)
        yield Part(where=str(path), results=results)


def _has_ranks_alone(directory: Path) -> bool:
    has_report = not all(is_absent(directory / name) for name in (NAME, JOURNAL))
    return not has_report and bool(journals_of_ranks(directory))
