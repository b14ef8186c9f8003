"""Terms divided among data-parallel ranks: ZeRO, FSDP, HSDP, experts, offload."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace

from pytest_memreq.estimate.model import Term, Tier
from pytest_memreq.estimate.parallelism import OFFLOAD_TIERS, SHARDED_FROM, Parallelism
from pytest_memreq.requirement import Breakdown, RankShare

NEVER = 4  # no stage of ZeRO


def rank_shares(
    terms: Iterable[Term], parallelism: Parallelism, *, stage: int = 0, copies: int = 1
) -> list[RankShare]:
    """What each data-parallel rank holds of the terms, equal ranks together.

    A sharded term counts as one flat tensor: each rank has an equal part, the first ones an
    element more where it does not come out even. `copies` groups of ranks hold the same.
    """
    gathered = _gathered(terms)
    degree = parallelism.shard_degree
    replicas = copies * parallelism.data // degree
    edges = sorted({0, degree, *(_edge(term, parallelism) for term in gathered)})
    return [
        _share(
            [_part(term, parallelism, first) for term in gathered],
            stage=stage,
            ranks=(end - first) * replicas,
            parallelism=parallelism,
        )
        for first, end in itertools.pairwise(edges)
    ]


def _gathered(terms: Iterable[Term]) -> list[Term]:
    """Terms of one kind as one: it is their flat whole that is divided."""
    kinds: dict[tuple[object, ...], list[Term]] = {}
    for term in terms:
        kind = (term.word, term.element_bytes, term.is_expert, term.tier)
        kinds.setdefault(kind, []).append(term)
    return [
        replace(same[0], elements=sum(term.elements for term in same)) for same in kinds.values()
    ]


def _is_sharded(term: Term, parallelism: Parallelism) -> bool:
    # What an optimizer keeps on the host by itself are counters of steps: each rank has its own.
    return term.tier == "device" and parallelism.zero >= SHARDED_FROM.get(term.word, NEVER)


def _neighbours(term: Term, parallelism: Parallelism) -> int:
    """Ranks side by side that hold different experts, and so never the same element."""
    return parallelism.expert if term.is_expert else 1


def _edge(term: Term, parallelism: Parallelism) -> int:
    """The first rank that has an element less of the term; 0 where all have the same."""
    if not _is_sharded(term, parallelism):
        return 0
    step = _neighbours(term, parallelism)
    return term.elements % (parallelism.shard_degree // step) * step


def _part(term: Term, parallelism: Parallelism, rank: int) -> Term:
    if not _is_sharded(term, parallelism):
        return term
    step = _neighbours(term, parallelism)
    each, more = divmod(term.elements, parallelism.shard_degree // step)
    return replace(term, elements=each + (rank // step < more))


def _share(terms: Iterable[Term], parallelism: Parallelism, *, stage: int, ranks: int) -> RankShare:
    on_device: dict[str, int] = {}
    held: dict[Tier, int] = {"device": 0, "cpu": 0, "nvme": 0}
    for term in terms:
        away = parallelism.offload.get(term.word)
        tier = term.tier if away is None else OFFLOAD_TIERS[away]
        held[tier] += term.bytes
        # A word that is held elsewhere is known to need 0 bytes here.
        is_here = tier == "device"
        on_device[term.word] = on_device.get(term.word, 0) + (term.bytes if is_here else 0)
    return RankShare(
        breakdown=Breakdown(**{f"{word}_bytes": size for word, size in on_device.items()}),
        stage=stage,
        ranks=ranks,
        cpu_bytes=held["cpu"],
        nvme_bytes=held["nvme"],
    )


def worst_first(shares: Iterable[RankShare]) -> tuple[RankShare, ...]:
    """Shares by what they need on the device, the largest first; else in the order given."""
    return tuple(sorted(shares, key=lambda share: -share.total_bytes))
