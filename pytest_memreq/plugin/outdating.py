"""Reports of an earlier run, declared incomplete as soon as pytest knows its options.

What fails later, a conftest.py that raises or an unknown option, would leave them as they were: a
green report of a run that never began. What fails before (a plugin of `-p` that is not there, a
mistake in the settings) still does. A worker of pytest-xdist says the same once more: by its
environment it cannot be told from a run that a test starts.
"""

from __future__ import annotations

import contextlib
import os

import pytest

from pytest_memreq.errors import MemreqError
from pytest_memreq.plugin.config import read_settings, style_of
from pytest_memreq.plugin.purpose import ISOLATED, RUNS_NOTHING
from pytest_memreq.plugin.ranks import ranks_of
from pytest_memreq.reports.files import is_directory, write_reports
from pytest_memreq.results import Results

ONLY_TELLS = ("help", "version", "markers", *RUNS_NOTHING)


def outdate(early_config: pytest.Config) -> None:
    """Replace the files of the report directory, where there is one and this run writes into it."""
    option = early_config.known_args_namespace
    runs_nothing = any(getattr(option, name, False) for name in ONLY_TELLS)
    if runs_nothing or ISOLATED in os.environ:  # then the process that started this one reports
        return
    # What is wrong with the settings or the directory is said once pytest is configured.
    with contextlib.suppress(MemreqError):
        settings = read_settings(early_config, option)
        directory = early_config.invocation_params.dir / settings.report_dir
        if settings.report and ranks_of(os.environ).is_writer and is_directory(directory):
            write_reports(directory, Results(status="incomplete"), style_of(settings))
