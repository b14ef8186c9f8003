"""`memreq.json`: every figure, for programs."""

from __future__ import annotations

from pytest_memreq.results import Results, to_json


def render(results: Results) -> str:
    """The results as one JSON object, as the documentation describes it."""
    return to_json(results)
