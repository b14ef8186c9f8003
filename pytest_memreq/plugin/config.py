"""Settings: from `[tool.memreq]`, from options; checked before any test, each error in one line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import tomli

from pytest_memreq.errors import MemreqError
from pytest_memreq.gate.budget import NO_BUDGET, Budget, parse_budget
from pytest_memreq.simulate.cards import find_card
from pytest_memreq.units import LIMIT_FORMS

MODES = ("auto", "measure", "simulate", "both", "off")
UNCHECKED = ("fail", "skip")
HISTORY = ("over", "all", "off")
TABLE = "[tool.memreq]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a run is to do. `budgets` are pairs of a node id's glob and a budget, in file order."""

    mode: str = "auto"
    report: bool = False
    report_dir: str = "memreq-report"
    all: bool = False
    gpu: str | None = None
    budget: Budget = NO_BUDGET
    budgets: tuple[tuple[str, Budget], ...] = ()
    unchecked: str = "fail"
    history: str = "over"


def add_options(parser: pytest.Parser) -> None:
    """The command line's part; None everywhere means "not given"."""
    group = parser.getgroup("memreq", "budgets for GPU memory")
    group.addoption(
        "--memreq",
        dest="memreq_mode",
        choices=MODES,
        help="measure on a device, simulate, do both, or choose by what is there (auto)",
    )
    group.addoption(
        "--memreq-report",
        dest="memreq_report",
        action="store_const",
        const=True,
        help="print the section on GPU memory and write the report's files",
    )
    group.addoption("--memreq-report-dir", dest="memreq_report_dir", metavar="DIR")
    group.addoption(
        "--memreq-all",
        dest="memreq_all",
        action="store_const",
        const=True,
        help="check every test, not only marked ones",
    )
    group.addoption(
        "--memreq-gpu",
        dest="memreq_gpu",
        metavar="NAME",
        help="the card whose capacity and kernels to pretend",
    )
    group.addoption(
        "--memreq-budget",
        dest="memreq_budget",
        metavar="SIZE",
        help="budget of checked tests without one of their own",
    )
    group.addoption(
        "--memreq-unchecked",
        dest="memreq_unchecked",
        choices=UNCHECKED,
        help="what becomes of a test whose requirement could not be found out",
    )
    group.addoption(
        "--memreq-history",
        dest="memreq_history",
        choices=HISTORY,
        help="on a device, record what was live at the peak: of tests that are over, which run a "
        "second time for it (default), of all, which costs time, or of none",
    )


def read_settings(config: pytest.Config) -> Settings:
    """Options over the file's table over defaults. Raises MemreqError for anything wrong."""
    path = settings_file(config)
    given = _checked(_table(path), lambda key: f"{path}: {TABLE} {key}") if path else {}
    options = {
        field.name: value
        for field in fields(Settings)
        if (value := config.getoption(f"memreq_{field.name}", None)) is not None
    }
    return Settings(**{**given, **_checked(options, _option_name)})


def settings_file(config: pytest.Config) -> Path | None:
    """The pyproject.toml that belongs to the run, None where there is none."""
    inipath = config.inipath
    if inipath is not None and inipath.name == "pyproject.toml":
        return inipath
    path = config.rootpath / "pyproject.toml"
    return path if path.is_file() else None


def _table(path: Path) -> Mapping[str, object]:
    try:
        tool = tomli.loads(path.read_text(encoding="utf-8")).get("tool", {})
    except (OSError, UnicodeDecodeError, tomli.TOMLDecodeError) as error:
        raise MemreqError(f"{path}: cannot be read: {error}") from None
    table = tool.get("memreq", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        raise MemreqError(f"{path}: tool.memreq is {table!r}; write a table, {TABLE}")
    return table


def _option_name(key: str) -> str:
    return "--memreq" if key == "mode" else f"--memreq-{key.replace('_', '-')}"


def _checked(given: Mapping[str, object], where: Callable[[str], str]) -> dict[str, Any]:
    for key in given:
        if key not in PARSERS:
            raise MemreqError(f"{where(key)}: unknown key; known are {', '.join(PARSERS)}")
    return {key: PARSERS[key](value, where(key)) for key, value in given.items()}


def _choice(choices: tuple[str, ...]) -> Callable[[object, str], str]:
    def parse(value: object, where: str) -> str:
        if not isinstance(value, str) or value not in choices:
            raise MemreqError(f"{where}: {value!r} is not one of {', '.join(choices)}")
        return value

    return parse


def _boolean(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise MemreqError(f"{where}: {value!r} is neither true nor false")
    return value


def _directory(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise MemreqError(f"{where}: {value!r} is not a directory's name")
    return value


def _card(value: object, where: str) -> str:
    try:
        return find_card(value if isinstance(value, str) else repr(value)).name
    except MemreqError as error:
        raise MemreqError(f"{where}: {error}") from None


def _budget(value: object, where: str) -> Budget:
    if isinstance(value, dict):
        return parse_budget(value, where=where)
    if not isinstance(value, (str, int)):
        raise MemreqError(f"{where}: {value!r} is not a limit; write {LIMIT_FORMS}")
    return parse_budget({"allocated": value}, where=where)


def _budgets(value: object, where: str) -> tuple[tuple[str, Budget], ...]:
    if not isinstance(value, dict):
        raise MemreqError(
            f'{where}: {value!r} is not a table; write "tests/test_x.py::*" = "2 GiB"'
        )
    return tuple((glob, _budget(limit, f"{where} {glob!r}")) for glob, limit in value.items())


PARSERS: dict[str, Callable[[object, str], Any]] = {
    "mode": _choice(MODES),
    "report": _boolean,
    "report_dir": _directory,
    "all": _boolean,
    "gpu": _card,
    "budget": _budget,
    "budgets": _budgets,
    "unchecked": _choice(UNCHECKED),
    "history": _choice(HISTORY),
}
