"""A run that finds no baseline where it looks, though there is one that has its tests.

pytest takes another rootdir with `-c`, and in a sub-directory without a settings file of its own;
the gate must not be gone with that.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from pytest_memreq.errors import MemreqError
from pytest_memreq.gate.baseline_update import file_of
from pytest_memreq.plugin.baselines import place_of
from pytest_memreq.plugin.config import Settings
from pytest_memreq.plugin.places import REPOSITORY, nearest_baseline
from pytest_memreq.reports.files import is_absent
from pytest_memreq.reports.reading import read_baseline

PROJECT = ("pyproject.toml", "setup.py", "setup.cfg", REPOSITORY)


def check_elsewhere(
    config: pytest.Config,
    settings: Settings,
    items: Iterable[pytest.Item],
    judged: Iterable[pytest.Item],
) -> None:
    """Raise MemreqError where another baseline is this run's, by its place or by what it has.

    It is that of the nearest directory that has one, from where pytest was started up to the top
    of the repository. Not where the user has named one, or ignores what is missing.
    """
    place = place_of(config, settings)
    is_said = settings.baseline is not None or settings.baseline_missing == "ignore"
    if is_said or not is_absent(place):
        return
    found = nearest_baseline(config.invocation_params.dir)
    if found is None or not _is_meant(found, config.rootpath, items, judged):
        return
    raise MemreqError(
        f"{place}: is not there, and {found} is: a baseline is looked for in the rootdir; give "
        f"--rootdir {found.parent}, or say which is meant with --memreq-baseline"
    )


def _is_meant(
    found: Path, rootdir: Path, items: Iterable[pytest.Item], judged: Iterable[pytest.Item]
) -> bool:
    """A project within another has no baseline if it likes; any test that has an entry has one."""
    if not _is_project(rootdir, found.parent) and any(True for _ in judged):
        return True
    baseline = read_baseline(found)
    entries = () if baseline is None else baseline.entries
    directory = found.parent.resolve()
    known = {directory / file for file in {file_of(entry.nodeid) for entry in entries}}
    return any(path.resolve() in known for path in {item.path for item in items})


def _is_project(rootdir: Path, outer: Path) -> bool:
    """True where the rootdir, or what is above it, is a project below or beside `outer`."""
    for place in (rootdir, *rootdir.parents):
        if outer.is_relative_to(place):
            return False
        if any((place / name).exists() for name in PROJECT):
            return True
    return False
