"""`--memreq-doctor`: what a run started here would do, and why, without running it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version

import pytest
from _pytest.pathlib import bestrelpath

from pytest_memreq.measure.backends import Backend
from pytest_memreq.plugin.baselines import Baselines
from pytest_memreq.plugin.calibrating import CALIBRATION
from pytest_memreq.plugin.config import Settings, told
from pytest_memreq.plugin.meters import MEASURING, Meters
from pytest_memreq.plugin.places import settings_file
from pytest_memreq.plugin.ranks import Ranks
from pytest_memreq.reports.text import visible
from pytest_memreq.simulate.cards import find_card
from pytest_memreq.units import format_size

# What changes figures or devices from outside of the settings.
VARIABLES = (
    *("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "CUBLAS_WORKSPACE_CONFIG"),
    *("CUDA_VISIBLE_DEVICES", "RANK", "WORLD_SIZE", "CI"),
)
NO_CARD_SET = (
    "no card is set; kernels, capacity and shares are those of the default. Name the one that you "
    'have: gpu = "NVIDIA L4" in [tool.memreq], or --memreq-gpu'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Torch:
    """The torch that is there, and what it was built for."""

    version: str
    cuda: str | None = None
    hip: str | None = None

    @property
    def build(self) -> str:
        """What it was built for."""
        if self.hip is not None:
            return f"built for ROCm {self.hip}"
        return "built for CPUs alone" if self.cuda is None else f"built for CUDA {self.cuda}"

    @property
    def why_no_device(self) -> str:
        """Where it finds none."""
        if self.cuda is None and self.hip is None:
            return "this torch is built for CPUs alone"
        return "torch sees no device: no driver, no card, or CUDA_VISIBLE_DEVICES hides it"


def torch_here() -> Torch:
    """The one that is imported now."""
    from pytest_memreq.measure.versions import hip_version, torch_versions  # imports torch

    found, cuda = torch_versions()
    return Torch(version=found, cuda=cuda, hip=hip_version())


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What becomes of checked tests: in words, and whether they can be checked at all."""

    what: str
    can_check: bool = True
    advice: tuple[str, ...] = ()


def plan_of(settings: Settings, devices: int, lost: str, card: str, torch: Torch) -> Plan:
    """By the mode that is set and what is there; `card` is the one that would be pretended."""
    mode = settings.mode
    advice = () if settings.gpu else (NO_CARD_SET,)
    if mode == "off":
        return Plan(what="not checked: mode is off")
    if mode == "simulate":
        return Plan(what=f"simulated on {card}: mode is simulate", advice=advice)
    if lost:
        return Plan(what=f"unchecked: {lost}", can_check=False)
    if devices:
        both = "simulated, then " if mode == "both" else ""
        return Plan(what=f"{both}measured: mode is {mode}, and there is a device")
    if mode in MEASURING:
        what = f"unchecked: mode is {mode}, and {torch.why_no_device}"
        return Plan(what=what, can_check=False)
    return Plan(what=f"simulated on {card}: {torch.why_no_device}", advice=advice)


def _check_places(config: pytest.Config) -> None:
    for given in () if config.option.pyargs else config.args:
        place = given.partition("::")[0]
        if not (config.invocation_params.dir / place).exists():
            raise pytest.UsageError(visible(f"file or directory not found: {given}"))


def lines_of(
    config: pytest.Config, settings: Settings, baselines: Baselines | None, ranks: Ranks
) -> tuple[list[str], bool]:
    """All that is told, and whether tests could be checked.

    Raises pytest.UsageError for a test that is not there, as pytest does when it looks for it.
    """
    _check_places(config)
    meters = Meters(config, settings)
    torch, backends = torch_here(), meters.backends() if settings.mode != "off" else ()
    card = meters.card_for(None)
    plan = plan_of(settings, len(backends), meters.lost, card, torch)
    rows = [
        ("Python", platform.python_version()),
        ("pytest", f"{version('pytest')}, rootdir {config.rootpath}"),
        ("memreq", version("pytest-memreq")),
        ("torch", f"{torch.version}, {torch.build}"),
        *_devices(backends, meters.lost or torch.why_no_device),
        ("card to pretend", f"{card}, {format_size(find_card(card).capacity_bytes)}"),
        *_settings(config),
        *_calibration(config),
        ("baseline", _baseline(config, baselines)),
        ("ranks", f"rank {ranks.rank} of {ranks.world_size}" if ranks.world_size > 1 else "one"),
        *_variables(os.environ),
        ("checked tests are", plan.what),
        *(("advice", each) for each in plan.advice),
    ]
    width = max(len(name) for name, _ in rows)
    return [f"{name:<{width}}  {visible(text)}" for name, text in rows], plan.can_check


def _devices(backends: Iterable[Backend], why_none: str) -> list[tuple[str, str]]:
    rows = []
    for backend in backends:
        capacity, outside = backend.capacity_bytes(), backend.outside()
        size = "?" if capacity is None else format_size(capacity)
        context = f"; the device metric is not known: {outside.reason}" if outside.reason else ""
        rows.append(("device", f"{backend.card_name()}, {size}{context}"))
    return rows or [("device", f"none: {why_none}")]


def _settings(config: pytest.Config) -> list[tuple[str, str]]:
    path = settings_file(config)
    here = config.invocation_params.dir
    file = "no pyproject.toml in the rootdir" if path is None else bestrelpath(here, path)
    rows = [
        ("setting", f"{key} = {value!r}, by {place}")
        for key, (value, place) in told(config).items()
    ]
    return [("settings", file), *(rows or [("setting", "none: all as by default")])]


def _calibration(config: pytest.Config) -> list[tuple[str, str]]:
    calibration = config.stash[CALIBRATION]
    return [] if calibration is None else [("calibration", f"of {calibration}")]


def _baseline(config: pytest.Config, baselines: Baselines | None) -> str:
    if baselines is None:
        return "none"
    name = bestrelpath(config.invocation_params.dir, baselines.path)
    return f"{name}, {len(baselines.baseline.entries)} entries"


def _variables(variables: Mapping[str, str]) -> list[tuple[str, str]]:
    return [("variable", f"{name}={variables[name]}") for name in VARIABLES if name in variables]
