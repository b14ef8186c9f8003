import gc
from pathlib import Path

import pytest

SCRIPTED = Path(__file__).with_name("scripted.py")


@pytest.fixture(autouse=True)
def imports_are_set_aside():
    """Once: a run within this process then collects no more than what is its own.

    A whole collection takes 0.3 s with all that tests import, and each run makes several.
    """
    if not gc.get_freeze_count():
        gc.collect()
        gc.freeze()


@pytest.fixture
def scripted(pytester):
    """A directory whose tests run on a scripted device of 10,000 bytes."""
    pytester.makeconftest(SCRIPTED.read_text())
    return pytester
