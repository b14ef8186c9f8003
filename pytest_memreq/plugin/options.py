"""The command line's part of the settings: a row an option, each beside the key that it sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pytest_memreq.choices import JUNIT_FAMILIES, MISSING, VENDORS, WHICH

MODES = ("auto", "measure", "simulate", "both", "off")
UNCHECKED = ("fail", "skip")
HISTORY = ("over", "all", "off")
ANNOTATIONS = ("auto", *VENDORS, "off")
CARDS = ("spread", "all")
DOCTOR = "--memreq-doctor"
FLAG = {"action": "store_const", "const": True}
# What pytest's parser is told of each, by the key in Settings.
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "mode": {
        "choices": MODES,
        "help": "measure on a device, simulate, do both, or choose by what is there (auto)",
    },
    "report": {
        **FLAG,
        "help": "print the section on GPU memory and write the report's files",
    },
    "report_dir": {
        "metavar": "DIR",
        "help": "where the report's files go (default: memreq-report)",
    },
    "junit_family": {
        "choices": JUNIT_FAMILIES,
        "help": "memreq.xml as junit-10.xsd has it (strict, default), or with file, line and "
        "figures of each test (extended)",
    },
    "annotations": {
        "choices": ANNOTATIONS,
        "help": "show verdicts on the lines of tests: in the form of a CI server's runner, or of "
        "the one that this is, with --memreq-report (auto, default)",
    },
    "all": {**FLAG, "help": "check every test, not only marked ones"},
    "gpu": {"metavar": "NAME", "help": "the card whose capacity and kernels to pretend"},
    "calibration": {
        "metavar": "FILE",
        "help": "what memreq validate --device --calibration FILE measured of the card: its "
        "context and workspaces are simulated too",
    },
    "budget": {
        "metavar": "SIZE",
        "help": "budget of checked tests without one of their own",
    },
    "unchecked": {
        "choices": UNCHECKED,
        "help": "what becomes of a test whose requirement could not be found out",
    },
    "history": {
        "choices": HISTORY,
        "help": "on a device, record what was live at the peak: of tests that are over, which run "
        "a second time for it (default), of all, which costs time, or of none",
    },
    "baseline": {
        "metavar": "FILE",
        "help": "what tests needed before (default: memreq-baseline.json)",
    },
    "baseline_missing": {
        "choices": MISSING,
        "help": "what becomes of a test that the baseline does not have",
    },
    "update": {
        "choices": WHICH,
        "help": "write the baseline: of tests that it does not have (new), also of those outside "
        "their tolerance (failing), or of all",
    },
    "update_in_ci": {**FLAG, "help": "let --memreq-update write where CI is set"},
    "tolerance": {
        "metavar": "LIMIT",
        "help": 'how far a test may move from its baseline, such as "1 %%, 2 MiB"',
    },
    "rank_timeout": {
        "metavar": "SECONDS",
        "help": "how long the first of several ranks waits for another that says nothing "
        "(default: 300)",
    },
    "cards": {
        "choices": CARDS,
        "help": "with pytest-xdist: a worker sees one of several cards (spread, default), or all",
    },
    "cards_timeout": {
        "metavar": "SECONDS",
        "help": "how long a test waits for room on a card that workers of pytest-xdist share "
        "(default: 1800)",
    },
    "divergence": {
        "metavar": "LIMIT",
        "help": "how far a simulation may be from what is measured before that is reported "
        '(default: "5 %%, 2 MiB")',
    },
}


def add_options(parser: pytest.Parser) -> None:
    """Add them all; None everywhere means "not given"."""
    group = parser.getgroup("memreq", "budgets for GPU memory")
    for key, told in OPTIONS.items():
        group.addoption(option_name(key), dest=destination(key), **told)
    group.addoption(
        DOCTOR, action="store_true", help="say what a run would do, and why; run nothing"
    )


def option_name(key: str) -> str:
    """The option that sets a key."""
    return "--memreq" if key == "mode" else f"--memreq-{key.replace('_', '-')}"


def destination(key: str) -> str:
    """Where pytest keeps what the option says."""
    return f"memreq_{key}"
