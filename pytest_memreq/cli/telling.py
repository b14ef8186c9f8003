"""What long work says while it goes on, on standard error."""

from __future__ import annotations

import sys
import time

FIRST_SECONDS, LAST_SECONDS = 2.0, 60.0


class Telling:
    """A line for each part that takes long, and within it more, each after twice the time."""

    def __init__(self, *, is_quiet: bool) -> None:
        self._is_quiet = is_quiet
        self._said, self._wait = time.monotonic(), FIRST_SECONDS

    def of_formulas(self, done: int, of: int) -> None:
        """So many layouts were judged by formula."""
        self._now_and_then(f"{done:,} of {of:,} layouts by formula")

    def of_finalist(self, number: int, of: int, name: str) -> None:
        """A simulation begins."""
        self._wait = FIRST_SECONDS
        self._say(f"simulating {number} of {of}: {name}")

    def of_operators(self, operators: int) -> None:
        """A simulation goes on."""
        self._now_and_then(f"  {operators:,} operators")

    def _now_and_then(self, line: str) -> None:
        if time.monotonic() - self._said >= self._wait:
            self._wait = min(2 * self._wait, LAST_SECONDS)
            self._say(line)

    def _say(self, line: str) -> None:
        self._said = time.monotonic()
        if not self._is_quiet:
            print(line, file=sys.stderr, flush=True)
