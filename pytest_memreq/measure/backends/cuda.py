"""CUDA and ROCm devices, by the statistics of torch's caching allocator."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import torch
from torch.nn import functional

from pytest_memreq.errors import DeviceLostError, MemreqError
from pytest_memreq.holdings import LiveBlock
from pytest_memreq.measure.backends import Aside, Backend, Outside, Recording
from pytest_memreq.measure.backends.generations import BlockKey, Generations
from pytest_memreq.measure.backends.resets import Resets
from pytest_memreq.measure.backends.segments import Fillers
from pytest_memreq.measure.driver import device_used_bytes, process_bytes
from pytest_memreq.requirement import Peak, Refusal

MIB = 2**20
NATIVE = "native"
RESETS_OF_PEAKS = ("_cuda_resetPeakMemoryStats", "_accelerator_resetPeakStats")
RESETS_OF_COUNTS = ("_cuda_resetAccumulatedMemoryStats", "_accelerator_resetAccumulatedStats")


def find_cuda() -> tuple[CudaBackend, ...]:
    """Every CUDA device that the process sees, the current one first; none without a card.

    Raises MemreqError where torch was told to use another allocator than its own, which alone
    counts allocations and lists its blocks.
    """
    count = torch.cuda.device_count()
    if count == 0:
        return ()
    allocator = torch.cuda.get_allocator_backend()
    if allocator != NATIVE:
        raise MemreqError(
            f"the allocator is {allocator}, which does not count what it gives out; "
            "measure with backend:native in PYTORCH_ALLOC_CONF"
        )
    current = torch.cuda.current_device()
    return tuple(map(CudaBackend, sorted(range(count), key=lambda index: index != current)))


class CudaBackend(Backend):
    """One device of `torch.cuda`."""

    def __init__(self, index: int) -> None:
        self.index = index
        self._refusal: Refusal | None = None
        self._is_watching = False
        self._generations = Generations()
        self._fillers = Fillers(index, self._generations)
        self._resets = Resets(index, RESETS_OF_PEAKS, RESETS_OF_COUNTS)
        self._forgotten_count = 0

    def device(self) -> torch.device:
        """By its index."""
        return torch.device("cuda", self.index)

    def card_name(self) -> str:
        """As the driver names it."""
        return torch.cuda.get_device_name(self.index)

    def capacity_bytes(self) -> int:
        """`total_memory` of the device's properties."""
        return int(torch.cuda.get_device_properties(self.index).total_memory)

    def compute_capability(self) -> tuple[int, int] | None:
        """Of the device's properties; ROCm has numbers of its own there."""
        return None if torch.version.hip else torch.cuda.get_device_capability(self.index)

    def synchronize(self) -> None:
        """Wait for every stream."""
        try:
            torch.cuda.synchronize(self.index)
        except torch.AcceleratorError as error:
            said = str(error).partition("\n")[0].removeprefix("CUDA error: ")
            raise DeviceLostError(f"CUDA context lost: {said}") from error

    def release_unused(self) -> None:
        """Clear cuBLAS's workspaces, which would count for whoever ran the first product."""
        torch._C._cuda_clearCublasWorkspaces()
        torch.cuda.empty_cache()

    def reset_peaks(self) -> None:
        """Of every statistic the allocator keeps."""
        with self._resets.ours():
            torch.cuda.reset_peak_memory_stats(self.index)
        self._refusal = None

    @contextmanager
    def resets_noticed(self, about_to_reset: Callable[[], object]) -> Iterator[None]:
        """By the functions of `torch._C` that torch's own end in."""
        with self._resets.noticed(about_to_reset, self._keep_count):
            yield

    def peak(self) -> Peak:
        """requested, allocated and reserved."""
        return Peak(
            requested_bytes=self._stat("requested_bytes", "peak"),
            allocated_bytes=self._stat("allocated_bytes", "peak"),
            reserved_bytes=self._stat("reserved_bytes", "peak"),
        )

    def allocated_bytes(self) -> int:
        """`torch.cuda.memory_allocated`."""
        return self._stat("allocated_bytes", "current")

    def reserved_bytes(self) -> int:
        """`torch.cuda.memory_reserved`."""
        return self._stat("reserved_bytes", "current")

    def allocation_count(self) -> int:
        """`allocation.all.allocated`; 0 before the allocator was first used."""
        return self._forgotten_count + self._stat("allocation", "allocated")

    def warm_up(self) -> None:
        """A product with a bias and its gradient: cuBLAS, cuBLASLt and autograd's thread; cuDNN.

        No random number is drawn, and nothing stays allocated.
        """
        self._watch_refusals()
        with torch.cuda.device(self.index), torch.enable_grad():
            one = torch.ones(16, 16, device=self.device(), requires_grad=True)
            functional.linear(one, one, one[0]).sum().backward()
            with suppress(RuntimeError):  # where cuDNN cannot be used, there is no handle to make
                functional.conv2d(one.detach()[None, None], one.detach()[None, None])

    def live_blocks(self) -> tuple[LiveBlock, ...]:
        """From the allocator's snapshot, workspaces of libraries among them."""
        segments = torch.cuda.memory_snapshot()
        mine = (segment for segment in segments if segment["device"] == self.index)
        return tuple(block for _, block in self._fillers.blocks_in(mine))

    def watch(self, keys: Collection[Hashable]) -> None:
        """By what torch tells its sanitizer."""
        self._generations.watch(key.address for key in keys if isinstance(key, BlockKey))

    def set_aside(self, keys: Collection[Hashable]) -> Aside:
        """By filling what is free in their segments."""
        return self._fillers.set_aside(keys)

    def outside(self) -> Outside:
        """What the driver says of this process, less what the allocator holds."""
        held = process_bytes(self.index)
        if held.bytes is None:
            return held
        return Outside(bytes=max(0, held.bytes - self.reserved_bytes()))

    def used_bytes(self) -> int | None:
        """As the driver says."""
        return device_used_bytes(self.index).bytes

    def cap(self, limit_bytes: int | None) -> bool:
        """By the allocator's share of the card, which it holds its segments against."""
        capacity = self.capacity_bytes()
        # Versions cut off or round what is below a byte; a quarter more leaves the limit whole.
        share = 1.0 if limit_bytes is None else min(1.0, (limit_bytes + 0.25) / capacity)
        torch.cuda.set_per_process_memory_fraction(share, self.index)
        return True

    def refusal(self) -> Refusal | None:
        """As the allocator told its observers, before it raised."""
        return self._refusal

    def recording(self) -> AbstractContextManager[Recording]:
        """torch's memory history."""
        from pytest_memreq.measure.history import recording

        return recording(self.index)

    def _keep_count(self) -> None:
        self._forgotten_count += self._stat("allocation", "allocated")

    def _watch_refusals(self) -> None:
        if not self._is_watching:  # an observer cannot be taken away again
            attach = torch._C._cuda_attach_out_of_memory_observer  # type: ignore[attr-defined]  # not in its stubs
            attach(_calling(self._note_refusal))
            self._is_watching = True

    def _note_refusal(self, device: int, segment_bytes: int) -> None:
        # Observers are told the segment that the request would have taken.
        if device == self.index:
            self._refusal = Refusal(
                requested_bytes=segment_bytes,
                least_bytes=_least_request(segment_bytes),
                allocated_bytes=self.allocated_bytes(),
                reserved_bytes=self.reserved_bytes(),
            )

    def _stat(self, name: str, kind: str) -> int:
        if not torch.cuda.is_initialized():
            return 0
        # Not torch.cuda.memory_stats: it sorts some hundred names, at each of many calls.
        stats: dict[str, Any] = torch._C._cuda_memoryStats(self.index)
        return int(stats[name]["all"][kind])


def _least_request(segment_bytes: int) -> int:
    """The smallest request that takes such a segment.

    get_allocation_size of c10/cuda/CUDACachingAllocator.cpp: small ones take 2 MiB, those above
    1 MiB take 20, those of 10 MiB and more their own size, rounded up to 2.
    """
    least = {2 * MIB: 1, 20 * MIB: MIB + 1}
    return least.get(segment_bytes, segment_bytes - 2 * MIB + 1)


def _calling(note: Callable[[int, int], None]) -> Callable[[int, int, int, int], None]:
    def observe(device: int, requested_bytes: int, _most: int, _free: int) -> None:
        note(device, requested_bytes)

    return observe
