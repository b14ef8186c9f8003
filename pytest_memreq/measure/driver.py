"""What the driver says of a card, by NVML: it sees what torch's allocator does not.

The optional package `nvidia-ml-py` (module `pynvml`) talks to it; `nvml` is that module, and a
parameter where something else is to answer.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable
from typing import Any

import torch

from pytest_memreq.measure.backends import Outside


def process_bytes(index: int, nvml: Any = None) -> Outside:
    """All that this process holds on CUDA device `index` of torch, its context included.

    The process must have a context there. Source: nvmlDeviceGetComputeRunningProcesses.
    """
    return _answer(_of_this_process, index, nvml)


def device_used_bytes(index: int, nvml: Any = None) -> Outside:
    """What everybody together uses of the card, the driver's own share included.

    It makes no context. Source: nvmlDeviceGetMemoryInfo.
    """
    return _answer(_of_everybody, index, nvml)


def _answer(question: Callable[[Any, Any], Outside], index: int, nvml: Any) -> Outside:
    if torch.version.hip:
        return Outside(reason="NVML knows no AMD cards")
    nvml = nvml or _nvml()
    if nvml is None:
        return Outside(reason="nvidia-ml-py is not installed")
    try:
        _begin(nvml)
        return question(nvml, _card(nvml, index))
    except nvml.NVMLError as error:
        return Outside(reason=f"NVML says: {error}")


def _nvml() -> Any:
    try:
        return importlib.import_module("pynvml")  # has no types
    except ModuleNotFoundError:
        return None


@functools.cache
def _begin(nvml: Any) -> None:
    """Once a process; what failed is tried again."""
    nvml.nvmlInit()


def _card(nvml: Any, index: int) -> Any:
    """By UUID: indices differ, as CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER are not NVML's.

    Device properties are read without a context. On a part of a card (MIG) it is the part's UUID.
    """
    uuid = torch.cuda.get_device_properties(index).uuid
    try:
        return nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except nvml.NVMLError_NotFound:
        return nvml.nvmlDeviceGetHandleByUUID(f"MIG-{uuid}")


def _of_this_process(nvml: Any, card: Any) -> Outside:
    listed = nvml.nvmlDeviceGetComputeRunningProcesses(card)
    ours = [process for process in listed if process.pid == os.getpid()]
    if not ours and len(listed) == 1:
        # A container numbers its processes otherwise than the driver does; this one is there.
        ours = listed
    if not ours:
        return Outside(
            reason=f"the driver lists {len(listed)} processes on the card and none by our number, "
            "as in a container: what is ours cannot be told"
        )
    held_bytes = ours[0].usedGpuMemory
    if held_bytes is None:  # WDDM, the driver model of Windows, manages the memory itself
        return Outside(reason="the driver does not tell what a process holds")
    return Outside(bytes=int(held_bytes))


def _of_everybody(nvml: Any, card: Any) -> Outside:
    return Outside(bytes=int(nvml.nvmlDeviceGetMemoryInfo(card).used))
