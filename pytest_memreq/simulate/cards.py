"""Cards to pretend: facts, each with its source.

`total_memory` moves by a few MiB between drivers; each card has one value that was reported.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches

from pytest_memreq.errors import MemreqError

DEFAULT_CARD = "NVIDIA H200"

_MIB = 2**20
# torch prints total_memory in whole MiB, rounded down; deviceQuery prints the same value in bytes.
_PRINTED = "torch properties printed, MiB rounded down:"
_QUERIED = "deviceQuery, exact bytes:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A graphics card as torch reports it: `capacity_bytes` is `total_memory` of its properties.

    `context_bytes` is what a process takes on it before any tensor, where that was published; it
    changes with drivers and versions of CUDA, and is in no figure.
    """

    name: str
    capacity_bytes: int
    compute_capability: tuple[int, int]
    multiprocessors: int
    source: str
    context_bytes: int | None = None
    is_rocm: bool = False

    @property
    def threads_per_multiprocessor(self) -> int:
        """As torch's property max_threads_per_multi_processor."""
        return THREADS_PER_MULTIPROCESSOR.get(self.compute_capability, 2048)

    @property
    def resident_blocks(self) -> int:
        """How many blocks of 256 threads a multiprocessor runs at once, if registers suffice."""
        return self.threads_per_multiprocessor // 256


# CUDA C++ Programming Guide, technical specifications by compute capability; 2048 elsewhere.
THREADS_PER_MULTIPROCESSOR = {
    (7, 5): 1024,
    (8, 6): 1536,
    (8, 7): 1536,
    (8, 9): 1536,
    (12, 0): 1536,
    (12, 1): 1536,
}

CARDS: dict[str, Card] = {
    card.name: card
    for card in (
        Card(
            name="Tesla V100-SXM2-16GB",
            capacity_bytes=16160 * _MIB,
            compute_capability=(7, 0),
            multiprocessors=80,
            source=f"{_PRINTED} 16160MB, log of an ml.p3.2xlarge in simple-sagemaker's README",
        ),
        Card(
            name="Tesla V100-SXM2-32GB",
            capacity_bytes=34_089_926_656,
            compute_capability=(7, 0),
            multiprocessors=80,
            source=f"{_QUERIED} CUDA 11.6, from a course on the cluster Expanse",
        ),
        Card(
            name="Tesla T4",
            capacity_bytes=15_655_829_504,
            compute_capability=(7, 5),
            multiprocessors=40,
            source=f"{_QUERIED} CUDA 12.2, bottlerocket-os/bottlerocket#3798",
        ),
        Card(
            name="NVIDIA A100-SXM4-40GB",
            capacity_bytes=42_298_834_944,
            compute_capability=(8, 0),
            multiprocessors=108,
            source=f"{_QUERIED} CUDA 12.2, bottlerocket-os/bottlerocket#3873",
        ),
        Card(
            name="NVIDIA A100-SXM4-80GB",
            capacity_bytes=85_100_068_864,
            compute_capability=(8, 0),
            multiprocessors=108,
            source=f"{_QUERIED} CUDA 12.5, four cards alike, published output",
        ),
        Card(
            name="NVIDIA A10G",
            capacity_bytes=22587 * _MIB,
            compute_capability=(8, 6),
            multiprocessors=80,
            source=f"{_PRINTED} 22587MB, torchcodec's tutorial on CUDA decoding (torch 2.15)",
        ),
        Card(
            name="NVIDIA GeForce RTX 3090",
            capacity_bytes=25_447_170_048,
            compute_capability=(8, 6),
            multiprocessors=82,
            source=f"{_QUERIED} CUDA 11.8 on Linux, published output; "
            "context: invoke-ai/InvokeAI#9413 (torch 2.7, CUDA 12.8)",
            context_bytes=256 * _MIB,
        ),
        Card(
            name="NVIDIA GeForce RTX 4070 Ti SUPER",
            capacity_bytes=15974 * _MIB,
            compute_capability=(8, 9),
            multiprocessors=66,
            source=f"{_PRINTED} 15974MB, driver 560.35.03 on Linux, report on training in MiniHack "
            "(torch 2.13); another system 15934MB",
        ),
        Card(
            name="NVIDIA GeForce RTX 4090",
            capacity_bytes=25_250_627_584,
            compute_capability=(8, 9),
            multiprocessors=128,
            source=f"{_QUERIED} CUDA 13.0, published output; on Windows torch prints 24563MB",
        ),
        Card(
            name="NVIDIA GeForce RTX 5090",
            capacity_bytes=33_680_457_728,
            compute_capability=(12, 0),
            multiprocessors=170,
            source=f"{_QUERIED} CUDA 12.8, NVIDIA/nccl#1637; another driver 33,677,180,928",
        ),
        Card(
            name="NVIDIA L4",
            capacity_bytes=23_583_784_960,
            compute_capability=(8, 9),
            multiprocessors=58,
            source=f"{_QUERIED} CUDA 12.2, bottlerocket-os/bottlerocket-kernel-kit#139",
        ),
        Card(
            name="NVIDIA L40S",
            capacity_bytes=45589 * _MIB,
            compute_capability=(8, 9),
            multiprocessors=142,
            source=f"{_PRINTED} 45589MB, 'Understanding GPU utilization strategies in Kubernetes'",
        ),
        Card(
            name="NVIDIA H100 80GB HBM3",
            capacity_bytes=81089 * _MIB,
            compute_capability=(9, 0),
            multiprocessors=132,
            source=f"{_PRINTED} 81089MB, published all_reduce benchmark (torch 2.7, CUDA 12.8)",
        ),
        Card(
            name="NVIDIA H100 PCIe",
            capacity_bytes=81008 * _MIB,
            compute_capability=(9, 0),
            multiprocessors=114,
            source=f"{_PRINTED} 81008MB, published output (torch 2.0)",
        ),
        Card(
            name="NVIDIA H200",
            capacity_bytes=143156 * _MIB,
            compute_capability=(9, 0),
            multiprocessors=132,
            source=f"{_PRINTED} 143156MB, published vLLM script for rented cards",
        ),
        Card(
            name="NVIDIA B200",
            capacity_bytes=182642 * _MIB,
            compute_capability=(10, 0),
            multiprocessors=148,
            source=f"{_PRINTED} 182642MB, published vLLM script for rented cards",
        ),
        Card(
            name="AMD Instinct MI300X",
            capacity_bytes=196592 * _MIB,
            compute_capability=(9, 4),
            multiprocessors=304,
            source=f"{_PRINTED} 196592MB, ROCm/ROCm#4203 (torch 2.6)",
            is_rocm=True,
        ),
    )
}


def find_card(name: str) -> Card:
    """The card of that name, in any case, also in part: `"A10G"`, `"A100 80GB"`, `"rtx4090"`.

    Raises MemreqError where no card or more than one is meant, and names those that are near.
    """
    words = _words(name)
    known = {_words(card.name): card for card in CARDS.values()}
    meant = [card for key, card in known.items() if words and _means(words, key)]
    if words in known:
        return known[words]
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise MemreqError(f"{name!r} may be any of {_listed(meant)}; write which")
    near = _near(words)
    found = f"the nearest are {_listed(near)}" if near else "memreq gpus lists those that are"
    raise MemreqError(f"no card named {name!r} is known; {found}")


def nearest_card(
    name: str, capability: tuple[int, int] | None, capacity_bytes: int | None
) -> Card | None:
    """The card of that full name, else the one whose kernels and size are nearest to a CUDA card's.

    None where the name is not known and no compute capability either.
    """
    named = [card for card in CARDS.values() if _words(card.name) == _words(name)]
    if named or capability is None:
        return next(iter(named), None)

    def distance(card: Card) -> tuple[int, int, int]:
        major, minor = (
            abs(a - b) for a, b in zip(card.compute_capability, capability, strict=True)
        )
        return major, minor, abs(card.capacity_bytes - (capacity_bytes or 0))

    return min((card for card in CARDS.values() if not card.is_rocm), key=distance)


def _words(name: object) -> tuple[str, ...]:
    # Whole words: "A10" is another card than the A10G, "L4" another than the L40S.
    words = re.findall(r"[a-z0-9]+", str(name).casefold())
    return tuple(
        word for word in words if word not in ("nvidia", "tesla", "geforce", "amd", "instinct")
    )


# A card with one of these is another card than the one without, which may not be known.
_TELLING = {"ti", "super"}


def _means(words: tuple[str, ...], key: tuple[str, ...]) -> bool:
    # Names are also written without their spaces: "RTX4090", "4070TiSUPER".
    runs = {
        key[start:end]: "".join(key[start:end])
        for start in range(len(key))
        for end in range(start + 1, len(key) + 1)
    }
    said = {word for run, joined in runs.items() if joined in words for word in run}
    return set(words) <= set(runs.values()) and _TELLING & set(key) <= said


def _near(words: tuple[str, ...]) -> list[Card]:
    known = {" ".join(_words(card.name)): card for card in CARDS.values()}
    return [known[key] for key in get_close_matches(" ".join(words), known, n=3, cutoff=0.5)]


def _listed(cards: list[Card]) -> str:
    return ", ".join(repr(card.name) for card in cards)
