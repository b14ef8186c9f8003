"""Calls that set a device's statistics back, noticed before they do.

A test may reset the peaks itself, which would hide what it needed before. torch's functions for it
all end in a few of `torch._C`, by whatever name they were imported.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from pytest_memreq.replacing import replaced


class Resets:
    """Of one device; `peaks` and `counts` name the functions of `torch._C` that take its index."""

    def __init__(self, index: int, peaks: Collection[str], counts: Collection[str]) -> None:
        self._index = index
        self._peaks = peaks
        self._counts = counts
        self._is_ours = False

    @contextmanager
    def ours(self) -> Iterator[None]:
        """What is reset within it is not a test's doing."""
        before, self._is_ours = self._is_ours, True
        try:
            yield
        finally:
            self._is_ours = before

    @contextmanager
    def noticed(
        self, of_peaks: Callable[[], object], of_counts: Callable[[], object]
    ) -> Iterator[None]:
        """Within it, one of the two is called before anybody else's reset."""
        pairs = [(name, of_peaks) for name in self._peaks]
        pairs += [(name, of_counts) for name in self._counts]
        present = [(name, tell) for name, tell in pairs if hasattr(torch._C, name)]
        with replaced([(torch._C, name, self._telling(name, tell)) for name, tell in present]):
            yield

    def _telling(self, name: str, tell: Callable[[], object]) -> Callable[[int], Any]:
        reset = getattr(torch._C, name)

        def told(index: int) -> Any:
            if index == self._index and not self._is_ours:
                tell()
            return reset(index)

        return told
