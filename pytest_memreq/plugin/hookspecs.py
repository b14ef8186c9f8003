"""Hooks that a conftest.py or another plugin may implement."""

from __future__ import annotations

import pytest

from pytest_memreq.measure.backends import Backend


@pytest.hookspec(firstresult=True)
def pytest_memreq_backend(config: pytest.Config) -> Backend | None:
    """The device to measure on; None leaves it to the next, in the end to what torch finds."""
