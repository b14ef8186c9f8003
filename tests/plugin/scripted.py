"""A device that does what the test says; the conftest.py of the runs that tests start.

It stands in at the border that `pytest_memreq_backend` is. Tests allocate and free by number of
bytes through the `card` fixture.
"""

import pytest

from pytest_memreq.requirement import Peak


class ScriptedBackend:
    def __init__(self):
        self.live = self.most = self.count = 0

    def allocate(self, size_bytes):
        self.live += size_bytes
        self.count += 1
        self.most = max(self.most, self.live)

    def free(self, size_bytes):
        self.live -= size_bytes

    def device(self):
        return "scripted"

    def card_name(self):
        return "Scripted card"

    def capacity_bytes(self):
        return 10_000

    def synchronize(self):
        pass

    def release_unused(self):
        pass

    def reset_peaks(self):
        self.most = self.live

    def peak(self):
        return Peak(requested_bytes=self.most, allocated_bytes=self.most)

    def allocated_bytes(self):
        return self.live

    def allocation_count(self):
        return self.count


BACKEND = ScriptedBackend()


def pytest_memreq_backend(config):
    return BACKEND


@pytest.fixture
def card():
    before = BACKEND.live
    yield BACKEND
    BACKEND.live = before
