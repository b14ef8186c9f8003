"""What a process holds on a device whatever it does there: to calibrate simulations with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from pytest_memreq.measure.backends import Backend, Outside
from pytest_memreq.measure.meter import DeviceMeter

# Makes what is multiplied, and gives what multiplies it.
Product = Callable[[torch.device], Callable[[], object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """`context` is beside the allocator once the meter is warm.

    `workspace_bytes` is what a handle's first product takes; None where it was seen to take none.
    """

    context: Outside
    workspace_bytes: int | None


def product(device: torch.device) -> Callable[[], object]:
    """A plain product into a result that is there: cuBLAS's workspace is all that it allocates."""
    one, result = (torch.ones(256, 256, device=device) for _ in range(2))
    return lambda: torch.mm(one, one, out=result)


def constants(meter: DeviceMeter, backend: Backend, make: Product = product) -> Constants:
    """Measure both on a device that nothing else was done on yet, which would load more kernels."""
    meter.prepare()
    meter.tidy()
    return Constants(context=backend.outside(), workspace_bytes=_workspace_bytes(backend, make))


def _workspace_bytes(backend: Backend, make: Product) -> int | None:
    """By the peak: versions of torch differ in whether the workspace stays afterwards."""
    multiply = make(backend.device())
    backend.synchronize()
    backend.release_unused()
    backend.reset_peaks()
    before_bytes = backend.allocated_bytes()
    multiply()
    backend.synchronize()
    peak_bytes = backend.peak().allocated_bytes
    backend.release_unused()
    grown_bytes = 0 if peak_bytes is None else peak_bytes - before_bytes
    return grown_bytes if grown_bytes > 0 else None
