"""Who is being imported: a finder that says when a module's own code begins and ends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# From a module's specification to what is around the run of its code.
Around = Callable[[ModuleSpec], AbstractContextManager[None]]


@contextmanager
def imports_noticed(around: Around) -> Iterator[None]:
    """Within it, every module that is imported from source has `around` it."""
    finder = _Finder(around)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Finder:
    """Finds nothing itself: it asks those after it, and puts a loader before theirs."""

    def __init__(self, around: Around) -> None:
        self._around = around

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = None if finder is self or find is None else find(name, path, target)
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader, self._around)
                return spec  # type: ignore[no-any-return]  # getattr has no type
        return None


class _Loader:
    """Steps back as soon as the module's code runs, so that nobody finds it in the module."""

    def __init__(self, loader: Any, around: Around) -> None:
        self._loader = loader
        self._around = around

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        assert spec is not None  # import makes modules from one
        spec.loader = module.__loader__ = self._loader
        with self._around(spec):
            self._loader.exec_module(module)
