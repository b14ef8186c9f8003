"""CUDA and ROCm devices, by the statistics of torch's caching allocator."""

from __future__ import annotations

import torch

from pytest_memreq.requirement import Peak


def find_cuda() -> CudaBackend | None:
    """The current CUDA device, None on a machine without one."""
    return CudaBackend() if torch.cuda.device_count() > 0 else None


class CudaBackend:
    """The current device of `torch.cuda`."""

    def device(self) -> torch.device:
        """The current one."""
        return torch.device("cuda", torch.cuda.current_device())

    def card_name(self) -> str:
        """As the driver names it."""
        return torch.cuda.get_device_name()

    def capacity_bytes(self) -> int:
        """`total_memory` of the device's properties."""
        return int(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory)

    def synchronize(self) -> None:
        """Wait for every stream."""
        torch.cuda.synchronize()

    def release_unused(self) -> None:
        """Clear cuBLAS's workspaces, which would count for whoever ran the first product."""
        torch._C._cuda_clearCublasWorkspaces()
        torch.cuda.empty_cache()

    def reset_peaks(self) -> None:
        """Of every statistic the allocator keeps."""
        torch.cuda.reset_peak_memory_stats()

    def peak(self) -> Peak:
        """requested, allocated and reserved; what the process holds outside is not known here."""
        stats = torch.cuda.memory_stats()
        return Peak(
            requested_bytes=stats["requested_bytes.all.peak"],
            allocated_bytes=stats["allocated_bytes.all.peak"],
            reserved_bytes=stats["reserved_bytes.all.peak"],
        )

    def allocated_bytes(self) -> int:
        """`torch.cuda.memory_allocated`."""
        return torch.cuda.memory_allocated()

    def allocation_count(self) -> int:
        """`allocation.all.allocated`; 0 before the allocator was first used."""
        return int(torch.cuda.memory_stats().get("allocation.all.allocated", 0))
