"""The plugin put to work: its settings read, and its parts registered."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import pytest

from pytest_memreq.errors import MemreqError
from pytest_memreq.plugin.addressed import is_told
from pytest_memreq.plugin.baselines import Baselines, baselines_of
from pytest_memreq.plugin.calibrating import CALIBRATION, calibration_of
from pytest_memreq.plugin.config import Settings, read_settings
from pytest_memreq.plugin.options import DOCTOR
from pytest_memreq.plugin.parts import parts_of
from pytest_memreq.plugin.ranks import Ranks, ranks_of
from pytest_memreq.reports.text import visible

P = ParamSpec("P")
Value = TypeVar("Value")


def wake(config: pytest.Config) -> None:
    """Read the settings, and put the parts to work that they ask for."""
    settings, baselines, ranks = read(config)
    for name, part in _or_usage_error(list, parts_of(config, settings, baselines, ranks)):
        config.pluginmanager.register(part, name)


def read(config: pytest.Config) -> tuple[Settings, Baselines | None, Ranks]:
    """All that a run is told. Raises pytest.UsageError for what is wrong with it."""
    settings = _or_usage_error(read_settings, config)
    config.stash[CALIBRATION] = _or_usage_error(calibration_of, settings)
    baselines = _or_usage_error(_baselines_of, config, settings)
    ranks = ranks_of(os.environ)
    is_ours = config.getoption(DOCTOR) or baselines is not None or is_told(config, config.option)
    if ranks.problem and is_ours:
        raise pytest.UsageError(visible(ranks.problem))
    return settings, baselines, ranks


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
