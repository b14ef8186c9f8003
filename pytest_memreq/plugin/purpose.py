"""What a run is for: pytest is also asked what there is, and forks go on as if they were it."""

from __future__ import annotations

import os

import pytest

# Options after which no test's call runs, by the names that pytest gives them.
RUNS_NOTHING = (
    *("collectonly", "setuponly", "setupplan", "showfixtures", "show_fixtures_per_test"),
    "cacheshow",
)

# For the process of one isolated test: what it is to do, as JSON.
ISOLATED = "PYTEST_MEMREQ_ISOLATED"


def runs_tests(config: pytest.Config) -> bool:
    """False for a run that only tells what there is; it has nothing to report."""
    return not any(config.getoption(name, False) for name in RUNS_NOTHING)


def has_workers(config: pytest.Config) -> bool:
    """True in the controller of pytest-xdist's workers, which runs no test itself."""
    return config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput")


def is_quiet(config: pytest.Config) -> bool:
    """True with -q: only what needs a look is shown."""
    return config.get_verbosity() < 0


class Original:
    """The process that this was made in.

    A test may fork, and its child may leave the test as it came: it then goes on as pytest, with
    whatever had been made, and has no say in what the run reports.
    """

    def __init__(self) -> None:
        self._number = os.getpid()

    @property
    def is_here(self) -> bool:
        """True in that process, False in its forks."""
        return os.getpid() == self._number
