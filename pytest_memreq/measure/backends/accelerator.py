"""XPU and other accelerators, by the statistics that `torch.accelerator` has of their allocator.

The names of the statistics are those of torch/csrc/DeviceAccelerator.cpp. All of them are there
for every allocator; what an allocator does not count stays 0 in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from pytest_memreq.errors import DeviceLostError, MemreqError
from pytest_memreq.measure.backends import Backend
from pytest_memreq.measure.backends.resets import Resets
from pytest_memreq.requirement import Peak

ELSEWHERE = ("cpu", "cuda", "mps")  # measured by other backends, or no accelerator
# The first that counts. XPU's allocator adds up bytes but not allocations: they grow together.
RESETS_OF_PEAKS = ("_accelerator_resetPeakStats", "_xpu_resetPeakMemoryStats")
RESETS_OF_COUNTS = ("_accelerator_resetAccumulatedStats", "_xpu_resetAccumulatedMemoryStats")
COUNTS = ("allocation.all.allocated", "allocated.all.allocated", "allocated_bytes.all.allocated")


def find_accelerators(api: Any = torch.accelerator) -> tuple[AcceleratorBackend, ...]:
    """Every device of the accelerator torch was built for, the current one first.

    One element is allocated on it for a moment, to see that it is counted. Raises MemreqError where
    it is not.
    """
    kind = api.current_accelerator(check_available=True)
    if kind is None or kind.type in ELSEWHERE:
        return ()
    current = api.current_device_index()
    indices = sorted(range(api.device_count()), key=lambda index: index != current)
    devices = [torch.device(kind.type, index) for index in indices]
    backends = tuple(AcceleratorBackend(device, _name_of(device), api) for device in devices)
    one = torch.empty(1, device=devices[0])
    backends[0].require_peaks()
    del one
    return backends


class AcceleratorBackend(Backend):
    """One device; `api` is `torch.accelerator` or has its functions."""

    def __init__(self, device: torch.device, name: str, api: Any = torch.accelerator) -> None:
        self.index = device.index
        self._device = device
        self._name = name
        self._api = api
        self._resets = Resets(self.index, RESETS_OF_PEAKS, RESETS_OF_COUNTS)
        self._forgotten_count = 0

    def require_peaks(self) -> None:
        """Raise MemreqError if no peak is kept; to be asked while something is allocated.

        Not every allocator is a c10::DeviceAllocator, and not every one that is counts.
        """
        try:
            has_peak = bool(self._stats().get("allocated_bytes.all.peak"))
        except RuntimeError:  # "Allocator for hpu is not a DeviceAllocator."
            has_peak = False
        if not has_peak:
            raise MemreqError(f"{self._name} keeps no peak of memory that torch can read")

    def device(self) -> torch.device:
        """By its type and index."""
        return self._device

    def card_name(self) -> str:
        """As torch's module for the device has it, or the type."""
        return self._name

    def capacity_bytes(self) -> int | None:
        """None before torch 2.10, and where the allocator does not tell."""
        try:
            _free_bytes, total_bytes = self._api.get_memory_info(self.index)
        except (AttributeError, RuntimeError):  # NotImplementedError is one
            return None
        return int(total_bytes)

    def synchronize(self) -> None:
        """Wait for every stream."""
        try:
            self._api.synchronize(self.index)
        except torch.AcceleratorError as error:
            raise device_lost(self._name, error) from error

    def release_unused(self) -> None:
        """Empty the allocator's cache; workspaces of libraries have no common way."""
        self._api.empty_cache()

    def reset_peaks(self) -> None:
        """Of every statistic the allocator keeps."""
        with self._resets.ours():
            self._api.reset_peak_memory_stats(self.index)

    @contextmanager
    def resets_noticed(self, about_to_reset: Callable[[], object]) -> Iterator[None]:
        """By the functions of `torch._C` that torch's own end in."""
        with self._resets.noticed(about_to_reset, self._keep_count):
            yield

    def peak(self) -> Peak:
        """allocated; requested and reserved where the allocator counts them."""
        stats = self._stats()
        return Peak(
            requested_bytes=_counted(stats, "requested_bytes", "peak"),
            allocated_bytes=int(stats.get("allocated_bytes.all.peak", 0)),
            reserved_bytes=_counted(stats, "reserved_bytes", "peak"),
        )

    def allocated_bytes(self) -> int:
        """`torch.accelerator.memory_allocated`."""
        return int(self._api.memory_allocated(self.index))

    def reserved_bytes(self) -> int | None:
        """`torch.accelerator.memory_reserved`, where the allocator counts it."""
        return _counted(self._stats(), "reserved_bytes", "current")

    def allocation_count(self) -> int:
        """Bytes ever allocated where the allocator does not count allocations: it grows with them.

        0 before the allocator was first used.
        """
        return self._forgotten_count + self._count()

    def _keep_count(self) -> None:
        self._forgotten_count += self._count()

    def _count(self) -> int:
        stats = self._stats()
        return next((int(stats[name]) for name in COUNTS if stats.get(name)), 0)

    def _stats(self) -> Mapping[str, int]:
        # Empty before the allocator was first used.
        stats: Mapping[str, int] = self._api.memory_stats(self.index)
        return stats


def device_lost(name: str, error: torch.AcceleratorError) -> DeviceLostError:
    """From the first line that torch has; the others are advice."""
    said = str(error).partition("\n")[0]
    return DeviceLostError(f"{name} lost: {said}")


def _counted(stats: Mapping[str, int], name: str, kind: str) -> int | None:
    """None where nothing was ever added to the statistic: 0 would be a figure."""
    return int(stats[f"{name}.all.{kind}"]) if stats.get(f"{name}.all.allocated") else None


def _name_of(device: torch.device) -> str:
    name_of = getattr(torch.get_device_module(device), "get_device_name", None)
    return device.type.upper() if name_of is None else str(name_of(device.index))
