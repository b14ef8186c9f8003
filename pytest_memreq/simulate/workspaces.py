"""Workspaces of cuBLAS: they live in the caching allocator, so `allocated` counts them.

aten/src/ATen/cuda/CublasHandlePool.cpp: one workspace per handle and stream, allocated at the
first matrix product, after that product's output. Autograd's device thread has a handle of its own,
so inference holds one and training two. Up to torch 2.14 they stay until they are cleared; from
2.15 on each product allocates and frees its own. Products with a bias go to cuBLASLt, whose own
workspace was a second one up to torch 2.11, and is again since 2.15.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from pytest_memreq.simulate.cards import Card
from pytest_memreq.simulate.versions import torch_version

# getChosenWorkspaceSize: 32 MiB on these majors, by torch version, else :4096:2:16:8 in KiB.
LARGE_BYTES = 32 * 2**20
SMALL_BYTES = (4096 * 2 + 16 * 8) * 2**10
LARGE_ON_MAJORS = {(2, 9): (9,), (2, 12): (9, 10, 12), (2, 14): (9, 10, 11, 12)}
ROCM_BYTES = 128 * 2**20  # gfx94x and gfx95x
TRANSIENT_SINCE = (2, 15)
# _getUnifiedWorkspaceSize of aten/src/ATen/cuda/CUDABlas.cpp: one workspace for both from 2.12 on.
LT_BYTES = 2**20
LT_HELD_UNTIL = (2, 11)


def workspace_bytes(
    card: Card, torch_version: tuple[int, int], config: str = "", measured_bytes: int | None = None
) -> int:
    """Bytes of one workspace: as CUBLAS_WORKSPACE_CONFIG says, as measured, or by version."""
    configured = _configured_bytes(config)
    if configured is not None:
        return configured
    if measured_bytes is not None:
        return measured_bytes
    if card.is_rocm:
        return ROCM_BYTES
    since = max((v for v in LARGE_ON_MAJORS if v <= torch_version), default=min(LARGE_ON_MAJORS))
    return LARGE_BYTES if card.compute_capability[0] in LARGE_ON_MAJORS[since] else SMALL_BYTES


def _configured_bytes(setting: str) -> int | None:
    """Pairs of KiB and how many, as `:4096:8`; None without a pair."""
    pairs = re.findall(r":([0-9]+):([0-9]+)", setting)
    return sum(int(size) * int(count) * 2**10 for size, count in pairs) if pairs else None


class Workspaces:
    """The workspaces that a pretended card holds, by library, thread and stream."""

    def __init__(self, card: Card, config: str, measured_bytes: int | None = None) -> None:
        self._version = torch_version()
        self._bytes = workspace_bytes(card, self._version, config, measured_bytes)
        self._is_transient = self._version >= TRANSIENT_SINCE
        self._held: dict[tuple[str, str, int], Tensor] = {}

    def clear(self) -> None:
        """What torch._C._cuda_clearCublasWorkspaces does."""
        self._held.clear()

    def missing(self, stream: int, *, is_lt: bool) -> tuple[tuple[str, int], ...]:
        """(library, bytes) that a product of this thread would allocate now, in order."""
        if self._is_transient:
            return (("cublaslt", LT_BYTES),) if is_lt else (("cublas", self._bytes),)
        wanted = [("cublas", self._bytes)]
        if is_lt and self._version <= LT_HELD_UNTIL:
            wanted.append(("cublaslt", LT_BYTES))
        return tuple(w for w in wanted if (w[0], _thread(), stream) not in self._held)

    def hold(self, library: str, workspace: Tensor, stream: int) -> None:
        """Keep what a product allocated, where this torch does."""
        if not self._is_transient:
            self._held[library, _thread(), stream] = workspace


def goes_to_lt(operator: str, args: Any, kwargs: Any) -> bool:
    """True for a product with a bias that cuBLASLt adds by the way.

    isInputCompliesAddmmCudaLt of aten/src/ATen/native/cuda/Blas.cpp.
    """
    if operator not in ("aten.addmm", "aten._addmm_activation"):
        return False
    bias, _, second = args[:3]
    is_row = bias.dim() == 1 or (bias.dim() == 2 and bias.shape[0] == 1)
    fits: bool = is_row and bias.numel() == second.shape[1] and bias.is_contiguous()
    is_wide = second.shape[0] > 1 and second.shape[1] > 1
    is_plain: bool = kwargs.get("beta", 1) == 1 and bias.dtype.is_floating_point
    return fits and is_wide and is_plain


def _thread() -> str:
    return "backward" if torch._C._current_autograd_node() is not None else "forward"
