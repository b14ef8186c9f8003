"""The `memreq` fixture; what it gives is loaded for the first test that asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_memreq.plugin.questions import Memreq


@pytest.fixture
def memreq(request: pytest.FixtureRequest) -> Memreq:
    """Estimate, simulate, measure and check GPU memory within a test."""
    from pytest_memreq.plugin.questions import memreq_of

    return memreq_of(request)
