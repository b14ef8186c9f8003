"""The devices that torch has here."""

from __future__ import annotations

from collections.abc import Callable

from pytest_memreq.measure.backends import Backend
from pytest_memreq.measure.backends.accelerator import find_accelerators
from pytest_memreq.measure.backends.cuda import find_cuda
from pytest_memreq.measure.backends.mps import find_mps

# CUDA first: its allocator tells most. `torch.accelerator` would find the first two as well.
FINDERS: tuple[Callable[[], tuple[Backend, ...]], ...] = (find_cuda, find_mps, find_accelerators)


def find_backends() -> tuple[Backend, ...]:
    """The devices of the first kind that is there, the current one first; () without any.

    Raises MemreqError where there is an accelerator that cannot be measured.
    """
    return next((found for find in FINDERS if (found := find())), ())
