"""Devices to measure on, one file each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pytest_memreq.requirement import Peak

if TYPE_CHECKING:
    import torch


class Backend(Protocol):
    """A device whose allocator keeps peaks. Sizes are bytes; None is "not known"."""

    def device(self) -> torch.device:
        """What torch calls it."""

    def card_name(self) -> str:
        """The device's name, as its maker has it."""

    def capacity_bytes(self) -> int | None:
        """All of the device's memory."""

    def synchronize(self) -> None:
        """Wait until all work on the device is done."""

    def release_unused(self) -> None:
        """Give up library workspaces and cached memory that nothing uses."""

    def reset_peaks(self) -> None:
        """Let every peak start from what is allocated now."""

    def peak(self) -> Peak:
        """The peaks since the last reset."""

    def allocated_bytes(self) -> int:
        """What is allocated now."""

    def allocation_count(self) -> int:
        """Allocations since the process began."""
