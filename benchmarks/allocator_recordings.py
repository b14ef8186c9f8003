"""Random scripts of requests that went through the caching allocators of builds of torch.

`data/allocator.json.xz` has the scripts, and of every build and settings the address of each
request, None where there was no memory, and twelve statistics.
"""

import json
import lzma
from pathlib import Path

from pytest_memreq.simulate.allocator import Allocator, OutOfDeviceMemory, parse_settings, tie_of

RECORDED = json.loads(
    lzma.decompress(Path(__file__).parent.joinpath("data/allocator.json.xz").read_bytes())
)
CASES = {f"{case['torch']} {case['name']} {at}": case for at, case in enumerate(RECORDED["cases"])}


def settings_of(case):
    """Those that the build had."""
    version = tuple(int(part) for part in case["torch"].split(".")[:2])
    return parse_settings(
        case["conf"],
        tie=tie_of(version),
        card_bytes=case["card_bytes"],
        memory_fraction=case["fraction"],
    )


def replayed(case):
    """Addresses less the first, and statistics, as our model has them."""
    allocator = Allocator(settings_of(case))
    addresses = list(addresses_of(allocator, RECORDED["scripts"][case["script"]]))
    first = next((address for address in addresses if address is not None), None)
    words = ("allocated", "reserved", "active", "requested", "inactive_split")
    words += tuple(f"peak_{word}" for word in words)
    statistics = {word: getattr(allocator, f"{word}_bytes") for word in words}
    statistics |= {"retries": allocator.retries, "failures": allocator.failures}
    return [None if a is None else a - first for a in addresses], statistics


def addresses_of(allocator, script):
    """Run the script; the address of each request."""
    chunks, read_elsewhere = {}, set()
    for action, number, size, stream in script:
        if action == "allocate":
            try:
                chunks[number] = allocator.allocate(size, stream)
            except OutOfDeviceMemory:
                yield None
            else:
                yield chunks[number].address
        elif action == "free":
            allocator.free(chunks.pop(number), is_read_elsewhere=number in read_elsewhere)
        elif action == "read_elsewhere":
            read_elsewhere.add(number)
        else:
            allocator.empty_cache()
