"""A device that does what the test says; the conftest.py of the runs that tests start.

It stands in at the border that `pytest_memreq_backend` is. Tests allocate and free by number of
bytes through the `card` fixture.
"""

import itertools
from contextlib import contextmanager

import pytest

from pytest_memreq.errors import DeviceLostError
from pytest_memreq.holdings import LiveBlock
from pytest_memreq.measure.backends import Backend, Outside
from pytest_memreq.requirement import Peak, Refusal


class OutOfMemoryError(RuntimeError):
    """As torch's, by which name it is known."""


class ScriptedBackend(Backend):
    def __init__(self, index=0):
        self.index = index
        self.blocks = {}
        self.numbers = itertools.count()
        self.most = self.count = self.outside_bytes = 0
        self.limit = self.capacity_bytes()
        self.workspace = None
        self.last_refusal = None
        self.error = self.about_to_reset = None

    @property
    def live(self):
        return sum(self.blocks.values())

    def allocate(self, size_bytes):
        if self.live + size_bytes > self.limit:
            self.last_refusal = Refusal(requested_bytes=size_bytes, allocated_bytes=self.live)
            raise OutOfMemoryError("out of memory")
        self.count += 1
        number = next(self.numbers)
        self.blocks[number] = size_bytes
        self.most = max(self.most, self.live)
        return number

    def free(self, size_bytes):
        """The last block of that size, or as much of the last ones."""
        for number in reversed(list(self.blocks)):
            if self.blocks[number] <= size_bytes:
                size_bytes -= self.blocks.pop(number)
            elif size_bytes:
                self.blocks[number] -= size_bytes
                size_bytes = 0

    def multiply(self):
        """A product, which takes a workspace once and keeps it."""
        if self.workspace is None:
            self.workspace = self.allocate(64)

    def break_down(self, message):
        self.error = RuntimeError(f"CUDA error: {message}")

    def device(self):
        return "scripted"

    def card_name(self):
        return "Scripted card"

    def capacity_bytes(self):
        return 10_000

    def synchronize(self):
        if self.error is not None:
            raise DeviceLostError(f"CUDA context lost: {self.error}") from self.error

    def release_unused(self):
        if self.workspace is not None:
            self.blocks.pop(self.workspace, None)
            self.workspace = None

    def reset_peaks(self):
        self.most = self.live
        self.last_refusal = None

    @contextmanager
    def resets_noticed(self, about_to_reset):
        self.about_to_reset = about_to_reset
        yield
        self.about_to_reset = None

    def reset_by_user(self):
        """As a test that calls torch.cuda.reset_peak_memory_stats."""
        if self.about_to_reset is not None:
            self.about_to_reset()
        self.most = self.live

    def peak(self):
        return Peak(requested_bytes=self.most, allocated_bytes=self.most)

    def allocated_bytes(self):
        return self.live

    def allocation_count(self):
        return self.count

    def live_blocks(self):
        return tuple(
            LiveBlock(key=(self.index, number), block_bytes=n, requested_bytes=n, device=self.index)
            for number, n in self.blocks.items()
        )

    def outside(self):
        return Outside(bytes=self.outside_bytes)

    def cap(self, limit_bytes):
        self.limit = self.capacity_bytes() if limit_bytes is None else limit_bytes
        return True

    def refusal(self):
        return self.last_refusal


BACKEND = ScriptedBackend()


def pytest_memreq_backend(config):
    return BACKEND


@pytest.fixture
def card():
    before = dict(BACKEND.blocks)
    yield BACKEND
    BACKEND.blocks = before
