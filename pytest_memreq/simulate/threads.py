"""Threads that a test starts: what they do on the pretended card is refused, for none follows it.

A dispatch mode is in force in its own thread alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pytest_memreq.errors import SimulationError
from pytest_memreq.replacing import replaced
from pytest_memreq.simulate.storages import tensors_in

ELSEWHERE = "a thread that the test started works on the card; only the test's own is simulated"

# Threads go on when the device that was pretended at their start is not any more.
_inside: list[_Inside] = []


class _Inside:
    """The device that is pretended: which tensors are its own, and who hears of a thread."""

    def __init__(self, is_pretended: Callable[[Tensor], bool], tell: Callable[[], object]) -> None:
        self.is_pretended = is_pretended
        self.tell = tell


@contextmanager
def guarded(is_pretended: Callable[[Tensor], bool], tell: Callable[[], object]) -> Iterator[None]:
    """Within it a thread that comes to work on the card is told, and gets a SimulationError."""
    bootstrap = threading.Thread._bootstrap_inner  # type: ignore[attr-defined]  # what every thread runs

    def bootstrap_guarded(thread: threading.Thread) -> None:
        with _Guard():  # type: ignore[no-untyped-call]  # torch's
            bootstrap(thread)

    inside = _Inside(is_pretended, tell)
    _inside.append(inside)
    try:
        with replaced([(threading.Thread, "_bootstrap_inner", bootstrap_guarded)]):
            yield
    finally:
        _inside.remove(inside)


class _Guard(TorchDispatchMode):
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        inside = next(reversed(_inside), None)  # the test's thread may be leaving it
        if inside is not None and _is_on_card(inside, args, kwargs):
            inside.tell()
            raise SimulationError(f"{ELSEWHERE}; measure this test on a device (--memreq measure)")
        return func(*args, **kwargs)


def _is_on_card(inside: _Inside, args: Any, kwargs: Any) -> bool:
    device = kwargs.get("device")
    if device is not None and torch.device(device).type in ("cuda", "meta"):
        return True
    return any(map(inside.is_pretended, (*tensors_in(args), *tensors_in(kwargs.values()))))
