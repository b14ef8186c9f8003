"""A long simulation says how far it is, on a line of the terminal that is written over."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import suppress

import pytest
from _pytest.capture import CaptureManager

from pytest_memreq.reports.text import shortened, visible

LONG_SECONDS = 10.0
EACH_SECONDS = 1.0
NAME = "memreq-progress"
_now = time.monotonic  # whatever a test makes of the clock


class Progress:
    """Follows the tests, and hears from the pretended card how many operators they have run."""

    def __init__(self, reporter: pytest.TerminalReporter, capture: CaptureManager) -> None:
        self._reporter = reporter
        self._capture = capture
        self._nodeid = ""
        self._begun = self._next = 0.0
        self._is_shown = False

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """A test begins; what was shown of it stays on its line."""
        self._nodeid, self._begun = item.nodeid, _now()
        self._next = self._begun + LONG_SECONDS
        self._is_shown = False
        return (yield)

    def told(self, operators: int) -> None:
        """So many operators ran since the test began."""
        now = _now()
        if now >= self._next:
            self._next = now + EACH_SECONDS
            with suppress(OSError):  # the terminal is gone
                self._show(operators, int(now - self._begun))

    def _show(self, operators: int, seconds: int) -> None:
        end = f": {operators:,} operators, {seconds} s"
        begin = "simulating "
        room = self._reporter._tw.fullwidth - len(begin) - len(end) - 1
        line = f"{begin}{shortened(visible(self._nodeid), max(room, 0))}{end}"
        with self._capture.global_and_fixture_disabled():
            if not self._is_shown:
                self._reporter.ensure_newline()
                self._is_shown = True
            self._reporter.rewrite(line, erase=True)


def progress_of(config: pytest.Config) -> Progress | None:
    """The one of this run; None where nobody watches, or wants quiet or all that tests print."""
    progress: Progress | None = config.pluginmanager.get_plugin(NAME)
    return progress


def start_progress(config: pytest.Config) -> None:
    """Once pytest has its terminal: for one that shows lines written over, which only we write."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    capture = config.pluginmanager.get_plugin("capturemanager")
    if reporter is None or capture is None or config.getoption("capture") == "no":
        return
    # A bool up to pytest 9.0, and since then one that can be called as well.
    if reporter.isatty and config.get_verbosity() >= 0:
        config.pluginmanager.register(Progress(reporter, capture), NAME)
