"""The pytest plugin. Loading it imports no torch and touches no device."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import pytest

from pytest_memreq.errors import MemreqError
from pytest_memreq.measure.backends import Backend
from pytest_memreq.plugin import hookspecs
from pytest_memreq.plugin.annotating import annotating_for
from pytest_memreq.plugin.baselines import Baselines, baselines_of
from pytest_memreq.plugin.calibrating import CALIBRATION, calibration_of
from pytest_memreq.plugin.config import Settings, read_settings
from pytest_memreq.plugin.fixtures import memreq
from pytest_memreq.plugin.importing import Importing
from pytest_memreq.plugin.isolation import RELAY, relay_for
from pytest_memreq.plugin.listening import Listening, Speaking
from pytest_memreq.plugin.options import add_options
from pytest_memreq.plugin.outdating import outdate
from pytest_memreq.plugin.purpose import has_workers
from pytest_memreq.plugin.ranks import ALONE, ranks_of
from pytest_memreq.plugin.recording import Recording
from pytest_memreq.plugin.reporting import Reporting
from pytest_memreq.plugin.session import Session
from pytest_memreq.plugin.watching import HEARING, Hearing, Watching
from pytest_memreq.plugin.workers import Workers
from pytest_memreq.reports.text import visible

MARKER_HELP = (
    "max_gpu_memory(limit=None, *, requested=None, allocated=None, reserved=None, device=None, "
    "gpu=None, enforce=None, isolate=False, ranks=None, skip_too_small=False, tolerance=None): the "
    "GPU memory "
    'that the test may need, such as "12 GiB", bytes, or "80%" of the card; the first limit is on '
    "allocated"
)
LEAK_MARKER_HELP = (
    "max_gpu_leak(limit, *, warmup=1, repeats=3): the GPU memory that the test may leave each time "
    'it runs, such as "0 B"; it runs warmup + repeats times'
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The command line's part of the settings."""
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Hooks for others."""
    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl(trylast=True)
def pytest_memreq_backend() -> Sequence[Backend]:
    """The devices that torch finds."""
    from pytest_memreq.measure.backends.finding import find_backends  # imports torch

    return find_backends()


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Say that nothing is known yet before anything of the user's can end the run."""
    outdate(early_config)


@pytest.hookimpl(tryfirst=True)  # before pytest's own JUnit report looks where to write
def pytest_configure(config: pytest.Config) -> None:
    """Read the settings, and put the parts to work that they ask for."""
    config.addinivalue_line("markers", MARKER_HELP)
    config.addinivalue_line("markers", LEAK_MARKER_HELP)
    try:
        settings, ranks = read_settings(config), ranks_of(os.environ)
        config.stash[CALIBRATION] = calibration_of(settings)
        baselines = _baselines_of(config, settings)
        relay = relay_for(config)
    except MemreqError as error:
        raise pytest.UsageError(visible(str(error))) from None
    plugins = config.pluginmanager
    if relay is not None:
        plugins.register(relay, RELAY)
    elif not hasattr(config, "workerinput"):
        is_shared = ranks.world_size > 1 and settings.mode != "off" and not has_workers(config)
        reported = settings if ranks.is_writer else replace(settings, report=False)
        reporting = Reporting(config, reported, baselines, ranks if is_shared else ALONE)
        plugins.register(reporting, "memreq-reporting")
        if is_shared and ranks.is_writer:
            plugins.register(Listening(config, settings, reporting, ranks), "memreq-listening")
        elif is_shared:
            plugins.register(Speaking(config, reporting, ranks), "memreq-speaking")
        plugins.register(reporting.problems, "memreq-problems")
        plugins.register(Hearing(reporting), HEARING)
        if settings.report or is_shared:
            plugins.register(Watching(reporting), "memreq-watching")
        if has_workers(config):
            plugins.register(Workers(config, reporting), "memreq-workers")
        annotating = annotating_for(config, reported, reporting)
        if annotating is not None:
            plugins.register(annotating, "memreq-annotating")
        if baselines is not None:
            plugins.register(Recording(config, baselines, reporting), "memreq-recording")
    if settings.mode == "off":
        return
    plugins.register(Session(config, settings, baselines), "memreq-session")
    if settings.mode != "measure":
        plugins.register(Importing(settings), "memreq-importing")


def _baselines_of(config: pytest.Config, settings: Settings) -> Baselines | None:
    if settings.mode != "off":
        return baselines_of(config, settings)
    if settings.update is not None:
        raise MemreqError("--memreq-update: nothing is checked with --memreq=off; leave one out")
    return None


__all__ = [
    "memreq",
    "pytest_addhooks",
    "pytest_addoption",
    "pytest_configure",
    "pytest_load_initial_conftests",
    "pytest_memreq_backend",
]
