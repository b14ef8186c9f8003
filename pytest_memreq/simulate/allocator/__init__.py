"""The caching allocator: from requests and frees to what `allocated` and `reserved` count."""

from pytest_memreq.simulate.allocator.chunks import Chunk
from pytest_memreq.simulate.allocator.model import Allocator, OutOfDeviceMemory
from pytest_memreq.simulate.allocator.settings import AllocatorSettings, parse_settings, tie_of

__all__ = [
    "Allocator",
    "AllocatorSettings",
    "Chunk",
    "OutOfDeviceMemory",
    "parse_settings",
    "tie_of",
]
