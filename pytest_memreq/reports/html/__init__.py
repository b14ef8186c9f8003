"""`index.html`: a run as one page that needs nothing else, the worst tests with plots."""

from __future__ import annotations

from pytest_memreq.results import Results


def render(results: Results) -> str:
    """The page; the same results give the same bytes."""
    from pytest_memreq.reports.html.page import page  # imports jinja2, for who wants a report

    return page(results)
