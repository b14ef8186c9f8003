"""Which of several results of one test counts."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_memreq.gate.verdict import Word
from pytest_memreq.results import TestResult

# The last counts: what is known to be over stays over, and a gain is one where all have it.
BY_SEVERITY: tuple[Word, ...] = ("improved", "within", "unchecked", "error", "regressed", "over")


def is_worse(word: Word, than: Word) -> bool:
    """True where the verdict counts beside the other."""
    return BY_SEVERITY.index(word) > BY_SEVERITY.index(than)


def weight(test: TestResult) -> tuple[int, int, int]:
    """What makes one result of a test worse than another: its verdict, its baseline's, its size."""
    before = None if test.baseline is None else test.baseline.verdict
    moved = -1 if before is None else BY_SEVERITY.index(before)
    return BY_SEVERITY.index(test.verdict), moved, test.peak.allocated_bytes or 0


def worst(tests: Iterable[TestResult]) -> TestResult:
    """The one that counts; of equals the first."""
    return max(tests, key=weight)
