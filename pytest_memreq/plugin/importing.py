"""Test modules with budgets are imported as if the pretended card were there.

`DEVICE = "cuda" if torch.cuda.is_available() else "cpu"` and
`skipif(not torch.cuda.is_available())` are decided while a module is imported, before any test of
it runs.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase

import pytest

from pytest_memreq.plugin.asking import asks_for_us
from pytest_memreq.plugin.checks import SAW_PRETENCE
from pytest_memreq.plugin.config import Settings
from pytest_memreq.simulate.cards import DEFAULT_CARD, find_card
from pytest_memreq.simulate.imports import pretended_imports


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
        with self.collecting(collector):
            return (yield)

    @contextmanager
    def collecting(self, collector: pytest.Collector) -> Iterator[None]:
        """Around the collection of a module, as of all else."""
        if not isinstance(collector, pytest.Module) or not self._has_budgets(collector):
            yield
            return
        automatic = self._settings.mode != "simulate"
        with pretended_imports(self._card, only_without_device=automatic) as asked:
            yield
        collector.stash[SAW_PRETENCE] = asked.was_asked

    def _has_budgets(self, module: pytest.Module) -> bool:
        if self._settings.all:
            return True
        if any(_may_match(glob, module.nodeid) for glob, _ in self._settings.budgets):
            return True
        return asks_for_us(module)


def _may_match(glob: str, nodeid: str) -> bool:
    """True if a node of this module could match: by the glob's part up to the first `::`."""
    return fnmatchcase(nodeid, glob.partition("::")[0]) or fnmatchcase(nodeid, glob)
