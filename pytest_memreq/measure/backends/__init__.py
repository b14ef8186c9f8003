"""Devices to measure on, one file each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pytest_memreq.holdings import LiveBlock
from pytest_memreq.requirement import Breakdown, Peak, Refusal, Site

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What the process holds on a device beside the allocator: context, libraries, other code.

    `bytes` is None where it cannot be told; `reason` then says why.
    """

    bytes: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A segment in which all that is in use was set aside: the keys of its blocks."""

    bytes: int
    keys: frozenset[Hashable]


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """What is kept from the test: blocks that fill `segments` beside what others hold there.

    `is_whole` is False where something that others hold could not be kept apart.
    """

    fillers: tuple[LiveBlock, ...] = ()
    segments: tuple[Segment, ...] = ()
    is_whole: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What was live at the peak of `allocated`, of all that was recorded; and the way there.

    The `timeline` is that of `Finding`.
    """

    breakdown: Breakdown
    sites: tuple[Site, ...] = ()
    peak_at: str | None = None
    timeline: tuple[tuple[int, int], ...] = ()
    notes: tuple[str, ...] = ()


class Recording(Protocol):
    """Allocations with their sources, from when it began. It is asked while it is still on."""

    def explain(self, left: Collection[Hashable]) -> Explanation:
        """What was live at the peak, without the blocks whose `LiveBlock.key` is in `left`."""

    def source_of(self, tensor: torch.Tensor) -> str | None:
        """Where in the user's code a tensor was made since then, as `file:line`."""

    def save(self, path: Path) -> None:
        """Write it for PyTorch's memory viewer (https://docs.pytorch.org/memory_viz)."""


class Backend(ABC):
    """One device whose allocator keeps peaks. Sizes are bytes; None is "not known".

    What has a body here is for devices that cannot do better.
    """

    index = 0
    # How long the driver may take until it has the memory of a process back that ended.
    return_seconds = 10.0

    @abstractmethod
    def device(self) -> torch.device:
        """What torch calls it."""

    @abstractmethod
    def card_name(self) -> str:
        """The device's name, as its maker has it."""

    @abstractmethod
    def capacity_bytes(self) -> int | None:
        """All of the device's memory."""

    def compute_capability(self) -> tuple[int, int] | None:
        """CUDA's, which tells a card's kernels; None of what is no such device."""
        return None

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until all work on the device is done; DeviceLostError where it never will be."""

    @abstractmethod
    def release_unused(self) -> None:
        """Give up library workspaces and cached memory that nothing uses."""

    @abstractmethod
    def reset_peaks(self) -> None:
        """Let every peak start from what is allocated now."""

    @abstractmethod
    def peak(self) -> Peak:
        """The peaks since the last reset; `device` is found out by `outside`."""

    @abstractmethod
    def allocated_bytes(self) -> int:
        """What is allocated now."""

    @abstractmethod
    def allocation_count(self) -> int:
        """Allocations since the process began; touches no device that the process has not used."""

    def warm_up(self) -> None:  # noqa: B027 - for devices that have nothing to make
        """Make the context and the handles of libraries, which the first user would pay for."""

    def rest(self) -> None:  # noqa: B027 - for devices that count by themselves
        """No peak will be asked for until the next reset."""

    def resets_noticed(self, about_to_reset: Callable[[], object]) -> AbstractContextManager[None]:  # noqa: ARG002 - for devices whose peaks nobody else can reset
        """Within it `about_to_reset` is called before anybody else resets the peaks."""
        return nullcontext()

    def watch(self, keys: Collection[Hashable]) -> None:  # noqa: B027 - keys may be unique by themselves
        """See to it that what comes to lie where one of these blocks was has another key."""

    def reserved_bytes(self) -> int | None:
        """What the allocator holds of the device now."""
        return None

    def live_blocks(self) -> tuple[LiveBlock, ...] | None:
        """Every block in use; None where the allocator does not list them."""
        return None

    def set_aside(self, keys: Collection[Hashable]) -> Aside:
        """Keep the segments of these blocks from being used by others, until the next time.

        A device that does not know its segments cannot.
        """
        return Aside(is_whole=not keys)

    def outside(self) -> Outside:
        """What the process holds beside the allocator."""
        return Outside(reason="the device does not tell")

    def used_bytes(self) -> int | None:
        """What all processes together use of the device; makes no context on it."""
        return None

    def cap(self, limit_bytes: int | None) -> bool:
        """Refuse what would have the allocator hold more; None lifts it. False if it cannot."""
        return limit_bytes is None

    def refusal(self) -> Refusal | None:
        """The last allocation that was refused since `reset_peaks`."""
        return None

    def recording(self) -> AbstractContextManager[Recording] | None:
        """Record each allocation and its source, which costs time; None where that is not had."""
        return None

    def notes(self) -> tuple[str, ...]:
        """What a reader has to know of this device's figures."""
        return ()
