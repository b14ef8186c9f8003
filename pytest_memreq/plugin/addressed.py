"""Whether anything is said to us before a run: by an option, a file, or whoever started it."""

from __future__ import annotations

import os
import re
import sys
from argparse import Namespace

import pytest

from pytest_memreq.errors import MemreqError
from pytest_memreq.plugin.options import OPTIONS, destination
from pytest_memreq.plugin.places import nearest_baseline, settings_file, table_of
from pytest_memreq.plugin.purpose import ISOLATED, has_workers
from pytest_memreq.plugin.ranks import RANK, WORLD_SIZE

# A file without it has no table of ours, unless a key is written with escapes.
_MAY_SAY = re.compile(rb"memreq|\\[uUx]")


def is_addressed(config: pytest.Config) -> bool:
    """True for a run that has to be ready from its start.

    One whose process has torch already may use a device by now, and workers count for each other.
    """
    return (
        "torch" in sys.modules
        or has_workers(config)
        or hasattr(config, "workerinput")
        or any(os.environ.get(name) for name in (ISOLATED, RANK, WORLD_SIZE))
        or is_told(config, config.option)
        or any(map(nearest_baseline, {config.rootpath, config.invocation_params.dir}))
    )


def is_told(config: pytest.Config, option: Namespace) -> bool:
    """True where an option of ours is given, or the settings' file has a table for us."""
    given = (getattr(option, destination(key), None) for key in OPTIONS)
    return any(value is not None for value in given) or _has_table(config)


def _has_table(config: pytest.Config) -> bool:
    path = settings_file(config)
    try:
        return path is not None and bool(_MAY_SAY.search(path.read_bytes()) and table_of(path))
    except (OSError, MemreqError):
        return True  # what is wrong with it is said where it is read
