"""A run that nothing was said to us about: the plugin sleeps until a test asks, or torch comes.

Most of a suite's runs have nothing to do with us, and are not to be slower for it. Whose memory is
whose has to be known from the first byte on, so the plugin is awake before torch is.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any

import pytest

from pytest_memreq.plugin.asking import any_asks, asks_for_us
from pytest_memreq.plugin.header import how_checked
from pytest_memreq.plugin.loading import imports_noticed

if TYPE_CHECKING:
    from pytest_memreq.plugin.importing import Importing
    from pytest_memreq.plugin.owning import Owning
    from pytest_memreq.plugin.session import Session

TORCH = "torch"


class Dormant:
    """Stands for all parts of the plugin while it sleeps."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._under_way: list[tuple[ModuleSpec, ExitStack]] = []  # imports within each other
        self._owning: Owning | None = None

    def pytest_report_header(self) -> str:
        """As where the plugin is awake, and nothing is set."""
        return f"memreq: {how_checked()}, no baseline"

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Wake up before a module of tests is imported that asks for us, or within one."""
        if not isinstance(collector, pytest.Module):
            return (yield)
        with self._collecting(collector):
            return (yield)

    @contextmanager
    def _collecting(self, module: pytest.Module) -> Iterator[None]:
        with ExitStack() as around:
            if TORCH in sys.modules or asks_for_us(module):
                importing: Importing = self._woken("importing")
                owning: Owning = self._woken("owning")
                around.enter_context(importing.collecting(module))
                around.enter_context(owning.collecting(module))
            else:
                around.enter_context(imports_noticed(partial(self._importing, module)))
            yield

    @contextmanager
    def _importing(self, module: pytest.Module, spec: ModuleSpec) -> Iterator[None]:
        """Around what a module imports; from torch on, as if it had been awake before."""
        with ExitStack() as around:
            self._under_way.append((spec, around))
            if self._owning is not None:
                around.enter_context(self._owning.importing(module, spec))
            elif spec.name == TORCH:
                owning: Owning = self._woken("owning")
                self._owning = owning
                for each, its_own in self._under_way:
                    its_own.enter_context(owning.importing(module, each))
            try:
                yield
            finally:
                self._under_way.pop()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> Generator[None, object, object]:
        """Wake up for a marker that no module of tests has written in it."""
        collected = list(items)
        outcome = yield
        if any_asks(collected) or any_asks(items):
            session: Session = self._woken("session")
            session.find_checks(config, items, collected)
        return outcome

    def _woken(self, name: str) -> Any:
        """The part of that name, once all are there; from then on they are asked."""
        from pytest_memreq.plugin.waking import wake

        plugins = self._config.pluginmanager
        if plugins.is_registered(self):
            plugins.unregister(self)
            wake(self._config)
        return plugins.get_plugin(f"memreq-{name}")
