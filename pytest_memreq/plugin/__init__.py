"""The pytest plugin. Loading it imports no torch and touches no device."""

from __future__ import annotations

import pytest

from pytest_memreq.errors import MemreqError
from pytest_memreq.measure.backends import Backend
from pytest_memreq.plugin import hookspecs
from pytest_memreq.plugin.config import add_options, read_settings
from pytest_memreq.plugin.fixtures import memreq
from pytest_memreq.plugin.importing import Importing
from pytest_memreq.plugin.reporting import Reporting
from pytest_memreq.plugin.session import Session

MARKER_HELP = (
    "max_gpu_memory(limit=None, *, requested=None, allocated=None, reserved=None, device=None, "
    'gpu=None): the GPU memory that the test may need, such as "12 GiB", bytes, or "80%" of the '
    "card; the first limit is on allocated"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The command line's part of the settings."""
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Hooks for others."""
    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl(trylast=True)
def pytest_memreq_backend() -> Backend | None:
    """The CUDA device that torch finds."""
    from pytest_memreq.measure.backends.cuda import find_cuda  # imports torch

    return find_cuda()


def pytest_configure(config: pytest.Config) -> None:
    """Read the settings, and put the parts to work that they ask for."""
    config.addinivalue_line("markers", MARKER_HELP)
    try:
        settings = read_settings(config)
    except MemreqError as error:
        raise pytest.UsageError(str(error)) from None
    plugins = config.pluginmanager
    if not hasattr(config, "workerinput"):
        plugins.register(Reporting(config, settings), "memreq-reporting")
    if settings.mode == "off":
        return
    plugins.register(Session(config, settings), "memreq-session")
    if settings.mode != "measure":
        plugins.register(Importing(settings), "memreq-importing")


__all__ = [
    "memreq",
    "pytest_addhooks",
    "pytest_addoption",
    "pytest_configure",
    "pytest_memreq_backend",
]
