"""Where a run looks for what is said to it: the settings' file, and the baseline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from os.path import lexists
from pathlib import Path

import pytest

from pytest_memreq.errors import MemreqError

TABLE = "[tool.memreq]"
BASELINE = "memreq-baseline.json"
REPOSITORY = ".git"  # a directory, or a file in a worktree


def settings_file(config: pytest.Config) -> Path | None:
    """The pyproject.toml that belongs to the run, None where there is none."""
    inipath = config.inipath
    if inipath is not None and inipath.name == "pyproject.toml":
        return inipath
    path = config.rootpath / "pyproject.toml"
    return path if path.is_file() else None


def table_of(path: Path) -> Mapping[str, object]:
    """What the file says to us, as TOML has it. Raises MemreqError for what cannot be read."""
    import tomli  # where there is a file

    try:
        tool = tomli.loads(path.read_text(encoding="utf-8")).get("tool", {})
    except (OSError, ValueError, RecursionError) as error:  # TOML errors are ValueErrors
        raise MemreqError(f"{path}: cannot be read: {error}") from None
    table = tool.get("memreq", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        raise MemreqError(f"{path}: tool.memreq is {table!r}; write a table, {TABLE}")
    return table


def nearest_baseline(start: Path) -> Path | None:
    """The first from there up to the top of the repository that is called so."""
    found = (place / BASELINE for place in _up_to_the_top(start))
    return next((path for path in found if lexists(path)), None)


def _up_to_the_top(start: Path) -> Iterator[Path]:
    for place in (start, *start.parents):
        yield place
        if (place / REPOSITORY).exists():
            return
