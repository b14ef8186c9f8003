"""Test modules with budgets are imported as if the pretended card were there.

`DEVICE = "cuda" if torch.cuda.is_available() else "cpu"` and
`skipif(not torch.cuda.is_available())` are decided while a module is imported, before any test of
it runs.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from fnmatch import fnmatchcase

import pytest

from pytest_memreq.plugin.checks import FIXTURE, LEAK_MARKER, MARKER, SAW_PRETENCE
from pytest_memreq.plugin.config import Settings
from pytest_memreq.simulate.cards import DEFAULT_CARD, find_card
from pytest_memreq.simulate.imports import pretended_imports

# As words: a module that imports from pytest_memreq does not ask for the fixture by that.
_NAMES = re.compile(rf"\b({MARKER}|{LEAK_MARKER}|{FIXTURE})\b".encode())


class Importing:
    """The hook around the collection of a module, which imports it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._card = find_card(settings.gpu or DEFAULT_CARD)

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Pretend the card while a module that has budgets is imported."""
        if not isinstance(collector, pytest.Module) or not self._has_budgets(collector):
            return (yield)
        automatic = self._settings.mode != "simulate"
        with pretended_imports(self._card, only_without_device=automatic) as asked:
            report = yield
        collector.stash[SAW_PRETENCE] = asked.was_asked
        return report

    def _has_budgets(self, module: pytest.Module) -> bool:
        if self._settings.all:
            return True
        if any(_may_match(glob, module.nodeid) for glob, _ in self._settings.budgets):
            return True
        try:
            source = module.path.read_bytes()
        except OSError:
            return False  # pytest reports a module that cannot be read
        return _NAMES.search(source) is not None


def _may_match(glob: str, nodeid: str) -> bool:
    """True if a node of this module could match: by the glob's part up to the first `::`."""
    return fnmatchcase(nodeid, glob.partition("::")[0]) or fnmatchcase(nodeid, glob)
