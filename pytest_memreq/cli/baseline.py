"""`memreq baseline`: what the file holds, brought up to date from a report, rid of what is gone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from pytest_memreq.choices import WHICH
from pytest_memreq.cli.limits import CANNOT_TELL, DOES_NOT_FIT, FITS
from pytest_memreq.cli.tables import aligned
from pytest_memreq.errors import MemreqError
from pytest_memreq.gate.baseline import Baseline, Entry, judge_baseline
from pytest_memreq.gate.baseline_text import to_text
from pytest_memreq.gate.baseline_update import (
    WRITES,
    Found,
    Update,
    file_of,
    update,
    without,
)
from pytest_memreq.gate.globs import matches
from pytest_memreq.gate.tolerance import FORM, NO_TOLERANCE, Tolerance, parse_tolerance
from pytest_memreq.reports.baseline_table import render
from pytest_memreq.reports.files import is_there, write_whole
from pytest_memreq.reports.reading import read_baseline, read_results
from pytest_memreq.reports.recording import entries_of
from pytest_memreq.reports.text import visible
from pytest_memreq.requirement import METRICS
from pytest_memreq.results import TestResult
from pytest_memreq.units import format_size

DEFAULT = Path("memreq-baseline.json")
FILTERS = ("mode", "gpu", "torch")
EXAMPLES = """\
examples:
  memreq baseline show
  memreq baseline update memreq-report/memreq.json
  memreq baseline update memreq-report --dry-run     is the report as the baseline has it?
  memreq baseline prune                              of test files that are gone
  memreq baseline prune --torch 2.12                 of a version that is no longer tested
"""


def add_to(parser: argparse.ArgumentParser) -> None:
    """Describe the command, its own commands, and their options."""
    parser.description = "The file of what tests needed; docs/baselines.md says how it is used."
    parser.epilog = EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.set_defaults(run=_show, file=DEFAULT, test=None, **dict.fromkeys(FILTERS))
    commands = parser.add_subparsers(metavar="COMMAND")
    _add_show(commands.add_parser("show", help="list entries; fails where the file is malformed"))
    _add_update(commands.add_parser("update", help="write what a report found"))
    _add_prune(commands.add_parser("prune", help="leave out entries"))


def _add_show(parser: argparse.ArgumentParser) -> None:
    _add_file(parser)
    _add_filters(parser)
    parser.set_defaults(run=_show)


def _add_update(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write what a report found, and print old and new. Exit codes: 0 the baseline is now as "
        "the report, 1 some tests regressed and were not written, 2 some figures are missing."
    )
    parser.add_argument("report", metavar="REPORT", type=Path, help="memreq.json, or its directory")
    parser.add_argument("--baseline", metavar="FILE", type=Path, default=DEFAULT, help=_IS_DEFAULT)
    parser.add_argument(
        "--which",
        choices=WHICH,
        default="failing",
        help="new: tests without an entry; failing: also those outside their tolerance (default)",
    )
    parser.add_argument("--tolerance", metavar="LIMIT", help=f"such as {_escaped(FORM)}")
    _add_dry_run(parser)
    parser.set_defaults(run=_update)


def _add_prune(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Leave out the entries of test files that are gone; or, with --test or its like, those "
        "that `show` lists with the same."
    )
    _add_file(parser)
    _add_filters(parser)
    parser.add_argument(
        "--root", metavar="DIR", type=Path, help="where node ids begin (default: FILE's directory)"
    )
    _add_dry_run(parser)
    parser.set_defaults(run=_prune)


_IS_DEFAULT = f"default: {DEFAULT}"


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="FILE", type=Path, nargs="?", default=DEFAULT, help=_IS_DEFAULT
    )


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--test", metavar="GLOB", help='node ids, such as "tests/test_gpt.py::*"')
    parser.add_argument("--mode", choices=("measured", "simulated"), help="how they were found out")
    parser.add_argument("--gpu", metavar="NAME", help="the card, as `show` names it")
    parser.add_argument("--torch", metavar="VERSION", help="such as 2.13")


def _add_dry_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="print what would change, no more")


def _show(arguments: argparse.Namespace) -> int:
    entries = _chosen(_present(arguments.file), arguments)
    print("\n".join(_listed(entries)))
    return FITS


def _update(arguments: argparse.Namespace) -> int:
    results = read_results(arguments.report)
    if results.status == "incomplete":
        print(
            f"memreq: cannot tell: {arguments.report}: is of a run that did not finish",
            file=sys.stderr,
        )
        return CANNOT_TELL
    baseline = read_baseline(arguments.baseline) or Baseline()
    entries, missing = entries_of(results)
    tolerance = NO_TOLERANCE
    if arguments.tolerance is not None:
        tolerance = parse_tolerance(arguments.tolerance, "--tolerance")
    found = [_found(baseline, entry, tolerance) for entry in entries]
    _write(arguments.baseline, update(baseline, found, arguments.which), arguments.dry_run)
    for test in missing:
        print(f"not written: {visible(test.nodeid)}: {test.verdict}: {visible(test.reason)}")
    written = frozenset() if arguments.dry_run else WRITES[arguments.which]
    return _exit_code([each.word for each in found if each.word not in written], missing)


def _prune(arguments: argparse.Namespace) -> int:
    baseline = _present(arguments.file)
    is_chosen = any(getattr(arguments, name) is not None for name in ("test", *FILTERS))
    root = arguments.root or arguments.file.absolute().parent
    removed = _chosen(baseline, arguments) if is_chosen else _gone(baseline, root)
    _write(arguments.file, without(baseline, removed), arguments.dry_run)
    return FITS


def _write(path: Path, changed: Update, is_dry_run: bool) -> None:
    print(render(changed))
    if changed.changes and not is_dry_run:
        write_whole(path, to_text(changed.baseline))


def _found(baseline: Baseline, entry: Entry, tolerance: Tolerance) -> Found:
    match = baseline.find(entry.nodeid, entry.device)
    if match is None:
        return Found(entry=entry, word=None)
    verdict = judge_baseline(entry.peak, match, tolerance.over(match.tolerance))
    return Found(entry=entry, word=verdict.word)


def _exit_code(left: Sequence[str | None], missing: Sequence[TestResult]) -> int:
    """By what was not written: the words of the baseline, and tests without figures."""
    words = {*left, *(test.verdict for test in missing)}
    if words & {"regressed", "over"}:
        return DOES_NOT_FIT
    return CANNOT_TELL if missing or words - {"within", "improved"} else FITS


def _present(path: Path) -> Baseline:
    baseline = read_baseline(path)
    if baseline is None:
        raise MemreqError(f"{path}: is not there; pytest --memreq-update new makes it")
    return baseline


def _chosen(baseline: Baseline, arguments: argparse.Namespace) -> list[Entry]:
    wanted = {name: getattr(arguments, name) for name in FILTERS}
    return [
        entry
        for entry in baseline.entries
        if arguments.test is None or matches(entry.nodeid, arguments.test)
        if all(value in (None, getattr(entry.device, name)) for name, value in wanted.items())
    ]


def _gone(baseline: Baseline, root: Path) -> list[Entry]:
    files = {file_of(entry.nodeid) for entry in baseline.entries}
    there = {file for file in files if is_there(root / file)}
    if files and not there:
        raise MemreqError(f"{root}: has none of the baseline's test files; say where, --root DIR")
    return [entry for entry in baseline.entries if file_of(entry.nodeid) not in there]


def _listed(entries: Iterable[Entry]) -> list[str]:
    rows = [
        [
            visible(entry.nodeid),
            *(_size(entry.peak.of(metric)) for metric in METRICS),
            visible(str(entry.device)),
        ]
        for entry in entries
    ]
    head = ["Test", *(metric.capitalize() for metric in METRICS), "On"]
    entries_text = "1 entry" if len(rows) == 1 else f"{len(rows)} entries"
    return [*aligned([head, *rows], numbers=range(1, 1 + len(METRICS))), entries_text]


def _size(size_bytes: int | None) -> str:
    return "?" if size_bytes is None else format_size(size_bytes)


def _escaped(text: str) -> str:
    return text.replace("%", "%%")  # argparse formats its help
