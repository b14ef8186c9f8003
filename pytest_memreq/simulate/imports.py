"""`torch.cuda` answers for the pretended card while test modules are imported.

A module decides at import what it does: `DEVICE = "cuda" if torch.cuda.is_available() else "cpu"`,
`skipif(not torch.cuda.is_available())`. Such lines must come out as on a machine with the card.
Torch itself is imported only if the module does so; nothing here brings it in.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from pytest_memreq.replacing import Replacement, replaced
from pytest_memreq.simulate.cards import Card


@dataclass(slots=True)
class Asked:
    """Whether `torch.cuda` was asked for anything that the pretence answered."""

    was_asked: bool = False


@contextmanager
def pretended_imports(card: Card, *, only_without_device: bool) -> Iterator[Asked]:
    """Within it `torch.cuda` answers for `card`, from the moment that torch is there.

    `only_without_device` leaves a machine that has a device of its own as it is.
    """
    asked = Asked()
    with ExitStack() as stack:

        def pretend() -> None:
            if not (only_without_device and _has_device()):
                stack.enter_context(_answering(card, asked))

        if "torch" in sys.modules:
            pretend()
        else:
            stack.enter_context(after_import("torch", pretend))
        yield asked


def _has_device() -> bool:
    import torch

    return torch.cuda.device_count() > 0


@contextmanager
def _answering(card: Card, asked: Asked) -> Iterator[None]:
    import torch

    from pytest_memreq.replacing import replaced
    from pytest_memreq.simulate.cuda_api import card_answers

    def noting(answer: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **kwargs: Any) -> Any:
            asked.was_asked = True
            return answer(*args, **kwargs)

        return noted

    answers = card_answers(card)
    with replaced([(torch.cuda, name, noting(answer)) for name, answer in answers.items()]):
        yield


@contextmanager
def after_import(name: str, action: Callable[[], None]) -> Iterator[None]:
    """Within it `action` is called once the module of that name was imported."""
    finder = _Watcher(name, action)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


@contextmanager
def replaced_in(name: str, replacements: Callable[[Any], Iterator[Replacement]]) -> Iterator[None]:
    """Within it a module's parts are replaced, now or as soon as somebody imports it."""
    with ExitStack() as stack:

        def replace() -> None:
            stack.enter_context(replaced(replacements(sys.modules[name])))

        if name in sys.modules:
            replace()
        else:
            stack.enter_context(after_import(name, replace))
        yield


class _Watcher(MetaPathFinder):
    """Finds one module by the other finders, and acts once it was executed."""

    def __init__(self, name: str, action: Callable[[], None]) -> None:
        self._name = name
        self._action = action
        self._is_looking = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's own spec, with a loader that acts afterwards."""
        if fullname != self._name or self._is_looking:
            return None
        self._is_looking = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._is_looking = False
        if spec is not None and spec.loader is not None:
            spec.loader = _ActingLoader(spec.loader, self._action)
        return spec


class _ActingLoader(Loader):
    """A loader that acts after the module was executed, and leaves no trace in it."""

    def __init__(self, loader: Loader, action: Callable[[], None]) -> None:
        self._loader = loader
        self._action = action

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the module's own loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Execute by the module's own loader, which the module then names as its own; act."""
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._action()
