"""Hooks that a conftest.py or another plugin may implement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_memreq.measure.backends import Backend


@pytest.hookspec(firstresult=True)
def pytest_memreq_backend(config: pytest.Config) -> Backend | Sequence[Backend] | None:
    """The device to measure on, or several, the one in use first.

    None leaves it to the next hook, in the end to what torch finds.
    """
