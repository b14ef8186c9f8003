from pathlib import Path

import pytest

SCRIPTED = Path(__file__).with_name("scripted.py")


@pytest.fixture
def scripted(pytester):
    """A directory whose tests run on a scripted device of 10,000 bytes."""
    pytester.makeconftest(SCRIPTED.read_text())
    return pytester
