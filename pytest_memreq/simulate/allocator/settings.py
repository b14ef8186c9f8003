"""Settings of the caching allocator, as PYTORCH_CUDA_ALLOC_CONF has them; what versions differ in.

c10/core/AllocatorConfig.cpp and c10/cuda/CUDAAllocatorConfig.cpp.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pytest_memreq.errors import MemreqError

MIB = 2**20
MIN_SPLIT_MIB = 20
ROUNDUP_BINS = 16  # of powers of two, the first 1 MiB
# Which of equally large free chunks is taken.
Tie = Literal["address", "chunk", "segment"]
Version = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocatorSettings:
    """How the allocator works; the defaults are torch's from 2.13 on, on a card without end.

    `card_bytes` is what the driver has, `context_bytes` of it are taken. A chunk of
    `max_split_bytes` or more is never split. `roundup_divisions` are for sizes of 1 MiB and less,
    2 MiB, 4 MiB and so on; 0 and 1 round to 512 bytes. `memory_fraction` of the card is the most
    that segments may hold. What is not set is None.
    """

    tie: Tie = "segment"
    card_bytes: int | None = None
    context_bytes: int = 0
    max_split_bytes: int | None = None
    max_non_split_rounding_bytes: int = 20 * MIB
    roundup_divisions: tuple[int, ...] = ()
    garbage_collection_threshold: float = 0.0
    memory_fraction: float = 1.0
    expandable_segments: bool = False
    large_segment_bytes: int = 20 * MIB
    throws_at_once: bool = False

    @property
    def limit_bytes(self) -> int | None:
        """What the fraction leaves for segments; None where it is all of the card."""
        if self.card_bytes is None or self.memory_fraction >= 1.0:
            return None
        return int(self.memory_fraction * self.card_bytes + 0.5)


# The tie among equal chunks by version, from the oldest on.
TIES: tuple[tuple[Version, Tie], ...] = (
    ((2, 0), "address"),
    ((2, 12), "chunk"),
    ((2, 13), "segment"),
)


def tie_of(version: Version) -> Tie:
    """What decides among free chunks of one size in this version of torch."""
    return [tie for since, tie in TIES if since <= version][-1]


def _mib(text: str) -> int:
    return int(text) * MIB


def _split_mib(text: str) -> int:
    if int(text) < MIN_SPLIT_MIB:
        raise ValueError(f"must be {MIN_SPLIT_MIB} or more")
    return _mib(text)


def _share(text: str) -> float:
    if not 0 < float(text) < 1:
        raise ValueError("must be between 0 and 1")
    return float(text)


def _fraction(text: str) -> float:
    if not 0 < float(text) <= 1:
        raise ValueError("must be above 0 and at most 1")
    return float(text)


def _switch(text: str) -> bool:
    if text not in ("True", "False"):
        raise ValueError("must be True or False")
    return text == "True"


def _divisions(text: str) -> tuple[int, ...]:
    """`8` for all sizes, or `[256:1,512:2,>:8]` by size in MiB; below the first its own."""
    if not text.startswith("["):
        return (_power_of_two(text),) * ROUNDUP_BINS
    bins = [0] * ROUNDUP_BINS
    last: int | None = None
    for interval in text.strip("[]").split(","):
        boundary, _, divisions = interval.partition(":")
        value = 0 if divisions == "0" else _power_of_two(divisions)
        if boundary == ">":
            after = (last or 0) + 1
            bins[after:] = [value] * (ROUNDUP_BINS - after)
            continue
        at = min(_power_of_two(boundary).bit_length() - 1, ROUNDUP_BINS - 1)
        if last is None:
            bins[:at] = [value] * at
        bins[at] = value
        last = at
    return tuple(bins)


def _power_of_two(text: str) -> int:
    value = int(text)
    if value < 1 or value & (value - 1):
        raise ValueError("must be a power of two")
    return value


# Key: the field it sets, and how its value is read.
KEYS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "max_split_size_mb": ("max_split_bytes", _split_mib),
    "max_non_split_rounding_mb": ("max_non_split_rounding_bytes", _split_mib),
    "roundup_power2_divisions": ("roundup_divisions", _divisions),
    "garbage_collection_threshold": ("garbage_collection_threshold", _share),
    "expandable_segments": ("expandable_segments", _switch),
    "large_segment_size_mb": ("large_segment_bytes", _mib),
    "per_process_memory_fraction": ("memory_fraction", _fraction),
    "throw_on_cudamalloc_oom": ("throws_at_once", _switch),
}
# Known to torch, and of no effect on what is modelled here.
WITHOUT_EFFECT = frozenset(
    (
        "release_lock_on_cudamalloc",
        "release_lock_on_hipmalloc",
        "graph_capture_record_stream_reuse",
        "expandable_segments_reserve",
        "expandable_segments_reserve_by_class",
    )
)
# By the argument, or by the environment, as pytest and torch take it.
WHERE = "allocator, or PYTORCH_ALLOC_CONF or PYTORCH_CUDA_ALLOC_CONF: "
_PAIR = re.compile(r"([a-z0-9_]+):(\[[^\]]*\]|[^,\[\]]+)")


def parse_settings(text: str, **fixed: Any) -> AllocatorSettings:
    """The settings of a PYTORCH_CUDA_ALLOC_CONF, with those `fixed` by version and card.

    MemreqError names what is not a setting, or one that is not simulated.
    """
    compact = text.replace(" ", "")
    pairs = _PAIR.findall(compact)
    if ",".join(f"{key}:{value}" for key, value in pairs) != compact:
        raise MemreqError(f"{WHERE}{text!r} is not key:value,key:value")
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key == "backend" and value == "native":
            continue
        if key in WITHOUT_EFFECT or key.startswith("pinned_"):
            continue
        if key not in KEYS:
            raise MemreqError(f"{WHERE}{key}:{value} is not simulated; known are {', '.join(KEYS)}")
        name, read = KEYS[key]
        try:
            values[name] = read(value)
        except ValueError as error:
            raise MemreqError(f"{WHERE}{key}:{value}: {error}") from None
    return AllocatorSettings(**{**fixed, **values})
