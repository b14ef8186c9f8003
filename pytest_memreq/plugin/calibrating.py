"""The calibration of a run: read once, before any test."""

from __future__ import annotations

import pytest

from pytest_memreq.plugin.config import Settings
from pytest_memreq.reports.files import read_whole
from pytest_memreq.simulate.calibration import MAX_CALIBRATION_BYTES, Calibration, from_text

CALIBRATION = pytest.StashKey[Calibration | None]()


def calibration_of(settings: Settings) -> Calibration | None:
    """That of the file that is named, None without one; MemreqError where it cannot be used."""
    path = settings.calibration
    if path is None or settings.mode == "off":
        return None
    return from_text(read_whole(path, MAX_CALIBRATION_BYTES), str(path))
