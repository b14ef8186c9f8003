"""`max_gpu_leak`: a test runs again and again, and what each run leaves is counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import pytest

from pytest_memreq.gate.leak import LeakLimit
from pytest_memreq.plugin.frames import raise_kept
from pytest_memreq.plugin.meters import Meter
from pytest_memreq.requirement import Survivor

REPORTED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """Bytes that each repeat left, and tensors that outlived them."""

    growths: tuple[int, ...]
    survivors: tuple[Survivor, ...] = ()


def find_leak(
    item: pytest.Item, meter: Meter, limit: LeakLimit, left_bytes: Callable[[], int]
) -> Leak:
    """What each repeat leaves, after the run that is over and the rest of the warm-up.

    Workspaces of libraries and the cache are given up before each look, so they are no leak; what
    the fixtures of the test hold does not grow by itself. `left_bytes` says what is there of what
    others left: that it goes away makes up for nothing.
    """
    from pytest_memreq.measure.survivors import storages, survivors  # imports torch

    for _ in range(limit.warmup - 1):
        _run(item)
    sizes = [_settled_bytes(meter) - left_bytes()]
    before = storages()
    with meter.sources() as source_of:
        for _ in range(limit.repeats):
            _run(item)
            sizes.append(_settled_bytes(meter) - left_bytes())
        growths = tuple(after - earlier for earlier, after in pairwise(sizes))
        alive = survivors(before, source_of)[:REPORTED] if sum(growths) > 0 else ()
    return Leak(growths=growths, survivors=alive)


def _run(item: pytest.Item) -> None:
    item.runtest()
    raise_kept(item)


def _settled_bytes(meter: Meter) -> int:
    meter.tidy()
    return meter.allocated_bytes()
