"""Annotations on the lines of tests, for the runner of a CI server that shows them."""

from __future__ import annotations

import os

import pytest

from pytest_memreq.choices import Vendor
from pytest_memreq.plugin.config import Settings
from pytest_memreq.plugin.reporting import Reporting
from pytest_memreq.reports.annotations import annotation_lines, place_of, vendor_of


class Annotating:
    """Prints them after the section on GPU memory."""

    def __init__(self, config: pytest.Config, vendor: Vendor, reporting: Reporting) -> None:
        self._config = config
        self._vendor: Vendor = vendor
        self._reporting = reporting

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """A line each, at the line's beginning, where runners look for them."""
        place = place_of(self._config.rootpath, self._vendor, os.environ)
        lines = annotation_lines(self._reporting.results(), self._vendor, place)
        if lines and not self._config.option.collectonly:
            terminalreporter.ensure_newline()
            for line in lines:
                terminalreporter.write_line(line)


def annotating_for(
    config: pytest.Config, settings: Settings, reporting: Reporting
) -> Annotating | None:
    """The part for the runner that is named, or that this is; None where there is none to tell."""
    vendor = _vendor(settings)
    return None if vendor is None else Annotating(config, vendor, reporting)


def _vendor(settings: Settings) -> Vendor | None:
    if settings.annotations == "auto":
        return vendor_of(os.environ) if settings.report else None
    return None if settings.annotations == "off" else settings.annotations
