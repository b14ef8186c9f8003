"""The command `memreq`. Exit codes: 0 fits, 1 does not fit, 2 cannot tell, 4 usage."""

from __future__ import annotations

import argparse
import io
import sys
from typing import NoReturn

from pytest_memreq.cli import (
    adopt,
    baseline,
    comment,
    diff,
    doctor,
    estimating,
    gpus,
    max_batch,
    merge,
    outputs,
    render,
    simulating,
    solve,
    validate,
)
from pytest_memreq.errors import MemreqError
from pytest_memreq.reports.text import visible

USAGE = 4


def main(argv: list[str] | None = None) -> int:
    """Run the command on `argv`, or on the process's arguments, and return its exit code."""
    _print_whatever_comes()
    try:
        arguments, left = _parser().parse_known_args(argv)
        if left:
            raise MemreqError(
                f"unrecognized arguments: {' '.join(left)}; see {arguments.command} --help"
            )
        code: int = arguments.run(arguments)
    except MemreqError as error:
        print(f"memreq: {visible(str(error))}", file=sys.stderr)
        return USAGE
    return code


def _print_whatever_comes() -> None:
    """Names of tests are anybody's: what an encoding does not have is escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise MemreqError: argparse itself would leave with 2, which means "cannot tell"."""
        raise MemreqError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="memreq", description="Budgets for GPU memory.", allow_abbrev=False)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    estimating.add_to(commands.add_parser("estimate", help="what a model needs, by formula"))
    simulating.add_to(
        commands.add_parser("simulate", help="what a step needs, by running it on a pretended card")
    )
    max_batch.add_to(
        commands.add_parser("max-batch", help="the largest batch whose step fits, by simulation")
    )
    solve.add_to(commands.add_parser("solve", help="layouts over cards that fit, best first"))
    baseline.add_to(commands.add_parser("baseline", help="what tests needed before"))
    doctor.add_to(
        commands.add_parser(
            "doctor",
            help="what a run of pytest here would do, and why",
            prefix_chars="\0",  # none: options are pytest's
            add_help=False,
        )
    )
    gpus.add_to(commands.add_parser("gpus", help="the cards that are known"))
    validate.add_to(commands.add_parser("validate", help="whether measuring gives steady figures"))
    diff.add_to(commands.add_parser("diff", help="two reports or baselines, compared"))
    render.add_to(commands.add_parser("render", help="the reports of a run, made once more"))
    merge.add_to(commands.add_parser("merge", help="several reports as one"))
    comment.add_to(
        commands.add_parser("comment", help="a report as the comment on its pull request")
    )
    outputs.add_to(commands.add_parser("outputs", help="a report's verdicts for $GITHUB_OUTPUT"))
    adopt.add_to(commands.add_parser("adopt", help="markers instead of hand-rolled assertions"))
    for command in commands.choices.values():
        command.set_defaults(command=command.prog)
    return parser
