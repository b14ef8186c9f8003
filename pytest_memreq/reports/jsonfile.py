"""`memreq.json`: every figure, for programs."""

from __future__ import annotations

from pytest_memreq.reports.text import without_commands
from pytest_memreq.results import Results, to_json


def render(results: Results) -> str:
    """The results as one JSON object, as the documentation describes it."""
    return without_commands(to_json(results))
