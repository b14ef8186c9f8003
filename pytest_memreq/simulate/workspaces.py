"""Workspaces of cuBLAS: they live in the caching allocator, so `allocated` counts them.

aten/src/ATen/cuda/CublasHandlePool.cpp: one workspace per handle and stream, allocated at the
first matrix product, after that product's output. Autograd's device thread has a handle of its own,
so inference holds one and training two. Up to torch 2.14 they stay until they are cleared; from
2.15 on each product allocates and frees its own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pytest_memreq.simulate.cards import Card

# getChosenWorkspaceSize: 32 MiB on these majors, by torch version, else :4096:2:16:8 in KiB.
LARGE_BYTES = 32 * 2**20
SMALL_BYTES = (4096 * 2 + 16 * 8) * 2**10
LARGE_ON_MAJORS = {(2, 9): (9,), (2, 12): (9, 10, 12), (2, 14): (9, 10, 11, 12)}
TRANSIENT_SINCE = (2, 15)


def workspace_bytes(card: Card, torch_version: tuple[int, int]) -> int:
    """Bytes of one workspace on a card, for a torch version."""
    since = max((v for v in LARGE_ON_MAJORS if v <= torch_version), default=min(LARGE_ON_MAJORS))
    return LARGE_BYTES if card.compute_capability[0] in LARGE_ON_MAJORS[since] else SMALL_BYTES


def torch_version() -> tuple[int, int]:
    """Major and minor version of the torch that is installed."""
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)


class Workspaces:
    """The workspaces that a pretended card holds, by the thread that would own the handle."""

    def __init__(self, card: Card) -> None:
        version = torch_version()
        self._bytes = workspace_bytes(card, version)
        self._is_transient = version >= TRANSIENT_SINCE
        self._held: dict[tuple[str, int], Tensor] = {}

    def clear(self) -> None:
        """What torch._C._cuda_clearCublasWorkspaces does."""
        self._held.clear()

    def missing_bytes(self, stream: int) -> int | None:
        """What a matrix product of this thread would allocate now; None if it is held already."""
        return None if (_thread(), stream) in self._held else self._bytes

    def hold(self, workspace: Tensor, stream: int) -> None:
        """Keep what a product allocated, where this torch does."""
        if not self._is_transient:
            self._held[_thread(), stream] = workspace


def _thread() -> str:
    return "backward" if torch._C._current_autograd_node() is not None else "forward"
