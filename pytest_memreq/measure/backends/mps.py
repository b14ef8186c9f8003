"""Apple's GPUs: torch keeps no peaks on MPS, so they are samples."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch

from pytest_memreq.measure.backends import Backend
from pytest_memreq.measure.backends.accelerator import device_lost
from pytest_memreq.requirement import Peak

PERIOD_SECONDS = 0.001
THREAD = "memreq samples of MPS"


def find_mps() -> tuple[MpsBackend, ...]:
    """The GPU of the Mac; there is one or none."""
    if not torch.backends.mps.is_available():
        return ()
    name_of = getattr(torch.backends.mps, "get_name", None)  # not in every torch from 2.9 on
    return (MpsBackend() if name_of is None else MpsBackend(str(name_of())),)


class MpsBackend(Backend):
    """Samples are taken from `reset_peaks` to `rest`, and at each question.

    `api` is `torch.mps` or has its functions.
    """

    def __init__(self, name: str = "Apple GPU", api: Any = torch.mps) -> None:
        self._name = name
        self._api = api
        self._lock = threading.Lock()
        self._last = self._most = (0, 0)  # allocated, reserved
        self._rises = 0
        self._sampler: _Sampler | None = None

    def device(self) -> torch.device:
        """There is one."""
        return torch.device("mps", 0)

    def card_name(self) -> str:
        """As Metal has it, where torch tells."""
        return self._name

    def capacity_bytes(self) -> int:
        """What Metal recommends to use at most; the memory is the host's too."""
        return int(self._api.recommended_max_memory())

    def synchronize(self) -> None:
        """Wait for every stream."""
        try:
            self._api.synchronize()
        except torch.AcceleratorError as error:
            raise device_lost("MPS device", error) from error

    def release_unused(self) -> None:
        """Empty the allocator's cache."""
        self._api.empty_cache()

    def reset_peaks(self) -> None:
        """Begin to sample, if that is not going on."""
        with self._lock:
            self._most = self._read()
        if self._sampler is None:
            self._sampler = _Sampler(self._sample)
            self._sampler.start()

    def peak(self) -> Peak:
        """The largest samples: of what tensors hold, and of what Metal's driver gave."""
        allocated_bytes, reserved_bytes = self._sample()
        return Peak(allocated_bytes=allocated_bytes, reserved_bytes=reserved_bytes)

    def rest(self) -> None:
        """The thread ends."""
        if self._sampler is not None:
            self._sampler.stop()
            self._sampler = None

    def allocated_bytes(self) -> int:
        """`torch.mps.current_allocated_memory`."""
        return int(self._api.current_allocated_memory())

    def reserved_bytes(self) -> int:
        """`torch.mps.driver_allocated_memory`: the allocator's cache and MPSGraph's memory too."""
        return int(self._api.driver_allocated_memory())

    def allocation_count(self) -> int:
        """How many samples showed more than the one before: MPS counts no allocations.

        It is never more than there were. What came and went between two samples shows in what the
        driver gave, unless the cache had room for it.
        """
        self._sample()
        return self._rises

    def notes(self) -> tuple[str, ...]:
        """How far the peaks can be trusted."""
        return ("peaks on MPS are samples, one every ms: the true ones may be higher",)

    def _sample(self) -> tuple[int, int]:
        """Read, and give the largest of both since the last reset."""
        with self._lock:
            now = self._read()
            self._most = (max(self._most[0], now[0]), max(self._most[1], now[1]))
            return self._most

    def _read(self) -> tuple[int, int]:
        # With the lock held: two threads would each count the same rise.
        now = (self.allocated_bytes(), self.reserved_bytes())
        self._rises += now[0] > self._last[0] or now[1] > self._last[1]
        self._last = now
        return now


class _Sampler(threading.Thread):
    """Calls `sample` every millisecond."""

    def __init__(self, sample: Callable[[], object]) -> None:
        super().__init__(name=THREAD, daemon=True)  # a run that is broken off does not wait for it
        self._sample = sample
        self._is_over = threading.Event()

    def run(self) -> None:
        """Until it is stopped."""
        while not self._is_over.wait(PERIOD_SECONDS):
            self._sample()

    def stop(self) -> None:
        """No sample is taken once this returns."""
        self._is_over.set()
        self.join()
