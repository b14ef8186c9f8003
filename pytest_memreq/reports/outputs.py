"""A run in `name=value` lines, for the outputs of a CI step: our own words and numbers alone."""

from __future__ import annotations

from pytest_memreq.reports.rows import outcome
from pytest_memreq.results import Results


def render(results: Results) -> str:
    """The outcome, the status, and how many tests had each verdict."""
    counts = [f"{word}={count}\n" for word, count in results.summary().items()]
    return "".join([f"outcome={outcome(results)}\n", f"status={results.status}\n", *counts])
