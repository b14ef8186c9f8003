"""The pytest plugin. Loading it imports no torch and touches no device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from pytest_memreq.plugin import hookspecs
from pytest_memreq.plugin.addressed import is_addressed, is_told
from pytest_memreq.plugin.dormant import Dormant
from pytest_memreq.plugin.fixtures import memreq
from pytest_memreq.plugin.options import DOCTOR, add_options

if TYPE_CHECKING:
    from pytest_memreq.measure.backends import Backend

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
    if is_told(early_config, early_config.known_args_namespace):
        from pytest_memreq.plugin.outdating import outdate

        outdate(early_config)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Answer `--memreq-doctor` instead of running; 2 where tests could not be checked."""
    if not config.getoption(DOCTOR):
        return None
    from pytest_memreq.plugin.doctoring import lines_of  # imports torch
    from pytest_memreq.plugin.waking import read

    lines, can_check = lines_of(config, *read(config))
    print("\n".join(lines))
    return 0 if can_check else 2


@pytest.hookimpl(tryfirst=True)  # before pytest's own JUnit report looks where to write
def pytest_configure(config: pytest.Config) -> None:
    """Put the plugin to work, or to sleep where nothing is said to it."""
    config.addinivalue_line("markers", MARKER_HELP)
    config.addinivalue_line("markers", LEAK_MARKER_HELP)
    if not is_addressed(config):
        config.pluginmanager.register(Dormant(config), "memreq-dormant")
        return
    from pytest_memreq.plugin.waking import wake

    wake(config)


__all__ = [
    "memreq",
    "pytest_addhooks",
    "pytest_addoption",
    "pytest_cmdline_main",
    "pytest_configure",
    "pytest_load_initial_conftests",
    "pytest_memreq_backend",
]
