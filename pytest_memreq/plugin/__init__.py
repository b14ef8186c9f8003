"""The pytest plugin. Loading it imports no torch and touches no device."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

import pytest

from pytest_memreq.errors import MemreqError
from pytest_memreq.measure.backends import Backend
from pytest_memreq.plugin import hookspecs
from pytest_memreq.plugin.baselines import Baselines, baselines_of
from pytest_memreq.plugin.calibrating import CALIBRATION, calibration_of
from pytest_memreq.plugin.config import Settings, read_settings
from pytest_memreq.plugin.fixtures import memreq
from pytest_memreq.plugin.options import DOCTOR, add_options
from pytest_memreq.plugin.outdating import outdate
from pytest_memreq.plugin.parts import parts_of
from pytest_memreq.plugin.ranks import Ranks, ranks_of
from pytest_memreq.reports.text import visible

P = ParamSpec("P")
Value = TypeVar("Value")

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


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Answer `--memreq-doctor` instead of running; 2 where tests could not be checked."""
    if not config.getoption(DOCTOR):
        return None
    from pytest_memreq.plugin.doctoring import lines_of  # imports torch

    settings, baselines, ranks = _read(config)
    lines, can_check = lines_of(config, settings, baselines, ranks)
    print("\n".join(lines))
    return 0 if can_check else 2


@pytest.hookimpl(tryfirst=True)  # before pytest's own JUnit report looks where to write
def pytest_configure(config: pytest.Config) -> None:
    """Read the settings, and put the parts to work that they ask for."""
    config.addinivalue_line("markers", MARKER_HELP)
    config.addinivalue_line("markers", LEAK_MARKER_HELP)
    settings, baselines, ranks = _read(config)
    for name, part in _or_usage_error(list, parts_of(config, settings, baselines, ranks)):
        config.pluginmanager.register(part, name)


def _read(config: pytest.Config) -> tuple[Settings, Baselines | None, Ranks]:
    settings = _or_usage_error(read_settings, config)
    config.stash[CALIBRATION] = _or_usage_error(calibration_of, settings)
    baselines = _or_usage_error(_baselines_of, config, settings)
    return settings, baselines, _or_usage_error(ranks_of, os.environ)


def _or_usage_error(read: Callable[P, Value], *given: P.args, **named: P.kwargs) -> Value:
    try:
        return read(*given, **named)
    except MemreqError as error:
        raise pytest.UsageError(visible(str(error))) from None


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
    "pytest_cmdline_main",
    "pytest_configure",
    "pytest_load_initial_conftests",
    "pytest_memreq_backend",
]
