"""Blocks told from those that come after them at the same address.

torch tells of each free where its sanitizer asks for it (torch/cuda/_gpu_trace.py). That costs some
microseconds an allocation and cannot be taken back, so it is asked for only once there is something
to watch: where everything that is alive is a test's own, there never is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch.cuda import _gpu_trace


class BlockKey(NamedTuple):
    """Where a block is, and how many were there before it: the key of a block."""

    device: int
    address: int
    generation: int = 0


class Generations:
    """How many blocks there were before, at each of the addresses that are watched."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}

    def watch(self, addresses: Iterable[int]) -> None:
        """Count the blocks at these addresses from now on."""
        new = set(addresses) - self._counts.keys()
        if new and not self._counts:
            torch._C._activate_gpu_trace()
            _gpu_trace.register_callback_for_memory_deallocation(self._freed)
        self._counts.update(dict.fromkeys(new, 0))

    def of(self, address: int) -> int:
        """Of the block that is at an address now; 0 where nobody watches."""
        return self._counts.get(address, 0)

    def _freed(self, address: int) -> None:
        if address in self._counts:
            self._counts[address] += 1
