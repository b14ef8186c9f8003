"""`memreq doctor`: what a run of pytest here would do, and why."""

from __future__ import annotations

import argparse
import subprocess
import sys
from functools import partial

from pytest_memreq.errors import MemreqError

OPTION = "--memreq-doctor"
HELP = (["-h"], ["--help"])
NOT_LOADED = (
    "pytest does not load the plugin here: PYTEST_DISABLE_PLUGIN_AUTOLOAD is set, or -p no:memreq "
    "given; `memreq doctor -p pytest_memreq.plugin` loads it"
)


def add_to(parser: argparse.ArgumentParser) -> None:
    """Describe the command; what follows it is pytest's, options too."""
    parser.description = (
        "Asks pytest what a run with these arguments would do: which torch and devices there are, "
        "which settings are in force and by what, whether tests would be measured or simulated, "
        "and why. Runs no test. Exit codes: 0 tests can be checked, 2 they cannot, 4 a setting is "
        "wrong."
    )
    parser.add_argument("arguments", nargs="*", metavar="PYTEST-ARGUMENT")
    parser.set_defaults(run=partial(_run, parser))


def _run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    if arguments.arguments in HELP:
        parser.print_help()
        return 0
    command = [sys.executable, "-m", "pytest", OPTION, *arguments.arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - a list
    if f"unrecognized arguments: {OPTION}" in done.stderr:
        raise MemreqError(NOT_LOADED)
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    return done.returncode
