"""`max_gpu_leak`: a test runs again and again, and what each run leaves is counted."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest

from pytest_memreq.gate.leak import LeakLimit
from pytest_memreq.plugin.meters import Meter
from pytest_memreq.requirement import Survivor

REPORTED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """Bytes that each repeat left, and tensors that outlived them."""

    growths: tuple[int, ...]
    survivors: tuple[Survivor, ...] = ()


def find_leak(item: pytest.Item, meter: Meter, limit: LeakLimit) -> Leak:
    """What each repeat leaves, after the run that is over and the rest of the warm-up.

    Workspaces of libraries and the cache are given up before each look, so they are no leak; what
    the fixtures of the test hold does not grow by itself.
    """
    from pytest_memreq.measure.survivors import storages, survivors  # imports torch

    for _ in range(limit.warmup - 1):
        item.runtest()
    sizes = [_settled_bytes(meter)]
    before = storages()
    with meter.sources() as source_of:
        for _ in range(limit.repeats):
            item.runtest()
            sizes.append(_settled_bytes(meter))
        growths = tuple(after - earlier for earlier, after in pairwise(sizes))
        alive = survivors(before, source_of)[:REPORTED] if sum(growths) > 0 else ()
    return Leak(growths=growths, survivors=alive)


def _settled_bytes(meter: Meter) -> int:
    meter.tidy()
    return meter.allocated_bytes()
