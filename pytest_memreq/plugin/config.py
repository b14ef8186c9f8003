"""Settings: from `[tool.memreq]`, from options; checked before any test, each error in one line."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

import pytest

from pytest_memreq.choices import (
    JUNIT_FAMILIES,
    MISSING,
    WHICH,
    JUnitFamily,
    Missing,
    Vendor,
    Which,
)
from pytest_memreq.errors import MemreqError
from pytest_memreq.gate.budget import NO_BUDGET, Budget, parse_budget
from pytest_memreq.gate.divergence import BOUND
from pytest_memreq.gate.tolerance import NO_TOLERANCE, TABLE_FORM, Tolerance, parse_tolerance
from pytest_memreq.plugin.options import (
    ANNOTATIONS,
    CARDS,
    HISTORY,
    MODES,
    UNCHECKED,
    destination,
    option_name,
)
from pytest_memreq.plugin.places import TABLE, settings_file, table_of
from pytest_memreq.reports.style import Style
from pytest_memreq.simulate.cards import find_card
from pytest_memreq.units import LIMIT_FORMS

Value = TypeVar("Value")
Pairs = tuple[tuple[str, Value], ...]

LONGEST_SECONDS = 6  # digits
FILES = ("baseline", "calibration")
# A file that said so would have every run adapt the baseline to what it finds.
OF_OPTIONS_ALONE = ("update", "update_in_ci")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a run is to do.

    `budgets` and `tolerances` are pairs of a node id's glob and what it sets, in file order.
    """

    mode: str = "auto"
    report: bool = False
    report_dir: str = "memreq-report"
    junit_family: JUnitFamily = "strict"
    annotations: Literal["auto", "off"] | Vendor = "auto"
    all: bool = False
    gpu: str | None = None
    calibration: Path | None = None
    budget: Budget = NO_BUDGET
    budgets: tuple[tuple[str, Budget], ...] = ()
    unchecked: str = "fail"
    history: str = "over"
    baseline: Path | None = None
    baseline_missing: Missing = "fail"
    update: Which | None = None
    update_in_ci: bool = False
    tolerance: Tolerance = NO_TOLERANCE
    tolerances: tuple[tuple[str, Tolerance], ...] = ()
    divergence: Tolerance = BOUND
    rank_timeout: int = 300
    cards: str = "spread"
    cards_timeout: int = 1800


def read_settings(config: pytest.Config, option: Namespace | None = None) -> Settings:
    """Options over the file's table over defaults. Raises MemreqError for anything wrong.

    `option` are the options as far as they are known, where pytest has not read them all.
    """
    path = settings_file(config)
    given = _beside(_of_file(path), path.parent) if path else {}
    options = _beside(_checked(_given(config, option), option_name), config.invocation_params.dir)
    return Settings(**{**given, **options})


def told(config: pytest.Config) -> dict[str, tuple[object, str]]:
    """What was set, as it was written, and by what: an option, or the file's name."""
    path = settings_file(config)
    of_file = {} if path is None else {k: (v, path.name) for k, v in table_of(path).items()}
    return {**of_file, **{k: (v, option_name(k)) for k, v in _given(config).items()}}


def spreads_cards(config: pytest.Config, settings: Settings) -> bool:
    """True where workers see one card each; a suite that says nothing to us may need them all."""
    return settings.cards == "spread" and bool(told(config))


def _given(config: pytest.Config, option: Namespace | None = None) -> dict[str, object]:
    return {
        field.name: value
        for field in fields(Settings)
        if (value := getattr(option or config.option, destination(field.name), None)) is not None
    }


def _beside(given: dict[str, Any], directory: Path) -> dict[str, Any]:
    """With the files that it names as paths from where they were named."""
    return {**given, **{key: directory / given[key] for key in FILES if key in given}}


def style_of(settings: Settings) -> Style:
    """What is chosen about the report's files."""
    return Style(junit_family=settings.junit_family)


def _of_file(path: Path) -> dict[str, Any]:
    table = table_of(path)
    for key in OF_OPTIONS_ALONE:
        if key in table:
            raise MemreqError(f"{path}: {TABLE} {key}: is for the command line, {option_name(key)}")
    return _checked(table, lambda key: f"{path}: {TABLE} {key}")


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


def _seconds(value: object, where: str) -> int:
    text = value if isinstance(value, str) else str(value)
    is_number = isinstance(value, (str, int)) and text.isascii() and text.isdecimal()
    if isinstance(value, bool) or not is_number or not 0 < len(text) <= LONGEST_SECONDS:
        raise MemreqError(f"{where}: {value!r} is not a number of seconds")
    return int(text)


def _name_of(what: str) -> Callable[[object, str], str]:
    def parse(value: object, where: str) -> str:
        if not isinstance(value, str) or not value.strip() or "\0" in value:
            raise MemreqError(f"{where}: {value!r} is not a {what}'s name")
        return value

    return parse


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


def _globs(
    parse: Callable[[object, str], Value], form: str
) -> Callable[[object, str], Pairs[Value]]:
    def parse_all(value: object, where: str) -> Pairs[Value]:
        if not isinstance(value, dict):
            raise MemreqError(
                f'{where}: {value!r} is not a table; write "tests/test_x.py::*" = {form}'
            )
        return tuple((glob, parse(each, f"{where} {glob!r}")) for glob, each in value.items())

    return parse_all


PARSERS: dict[str, Callable[[object, str], Any]] = {
    "mode": _choice(MODES),
    "report": _boolean,
    "report_dir": _name_of("directory"),
    "junit_family": _choice(JUNIT_FAMILIES),
    "annotations": _choice(ANNOTATIONS),
    "all": _boolean,
    "gpu": _card,
    "calibration": _name_of("file"),
    "budget": _budget,
    "budgets": _globs(_budget, '"2 GiB"'),
    "unchecked": _choice(UNCHECKED),
    "history": _choice(HISTORY),
    "baseline": _name_of("file"),
    "baseline_missing": _choice(MISSING),
    "update": _choice(WHICH),
    "update_in_ci": _boolean,
    "tolerance": parse_tolerance,
    "divergence": parse_tolerance,
    "tolerances": _globs(parse_tolerance, TABLE_FORM),
    "rank_timeout": _seconds,
    "cards": _choice(CARDS),
    "cards_timeout": _seconds,
}
