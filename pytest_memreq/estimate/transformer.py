"""A transformer as numbers, and its parameters by shape, whole or as one rank has them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from pytest_memreq.errors import MemreqError
from pytest_memreq.estimate.lookup import check_count, check_divides
from pytest_memreq.estimate.model import Parameter, Shape
from pytest_memreq.estimate.parallelism import Parallelism

Place = Literal["first", "block", "last"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transformer:
    """A decoder of equal blocks: attention, then a feed-forward network or experts.

    The defaults are GPT-2's and GPT-3's. Groups of heads share one of `kv_heads` (Ainslie et al.,
    arXiv 2305.13245), None is one for each. `feed_forward` is the width between, None is 4 hidden;
    `gated` has a third matrix (Shazeer, arXiv 2002.05202). `positions` are learned ones, 0 where
    they are rotated in. `experts` of a block, 0 is none, have a router; each token goes to
    `experts_per_token`. `dense_layers` at the front have no experts. A layer norm has a bias, a
    root-mean-square one no `norm_bias`; a block has `norms` of the hidden size, and `head_norms` of
    queries and keys. `fused_attention` keeps no scores (Dao et al., arXiv 2205.14135). MemreqError
    names numbers that do not go together.
    """

    layers: int
    hidden: int
    heads: int
    vocabulary: int
    kv_heads: int | None = None
    head_size: int | None = None
    feed_forward: int | None = None
    gated: bool = False
    positions: int = 0
    experts: int = 0
    experts_per_token: int = 0
    expert_feed_forward: int | None = None
    dense_layers: int = 0
    tied_embeddings: bool = True
    qkv_bias: bool = True
    output_bias: bool = True
    feed_forward_bias: bool = True
    head_bias: bool = False
    norms: int = 2
    norm_bias: bool = True
    head_norms: bool = False
    dropout: bool = True
    fused_attention: bool = False

    def __post_init__(self) -> None:
        for name in ("layers", "hidden", "heads", "vocabulary", "head_width", "width"):
            check_count(name, getattr(self, name))
        for name in ("positions", "experts", "experts_per_token", "dense_layers"):
            check_count(name, getattr(self, name), least=0)
        if self.head_size is None:
            check_divides("hidden", self.hidden, "heads", self.heads, "or say head_size")
        check_divides("heads", self.heads, "kv_heads", self.key_heads)
        if self.experts and not 0 < self.experts_per_token <= self.experts:
            raise MemreqError(
                f"experts_per_token={self.experts_per_token} of experts={self.experts}; "
                "write 1 or more, and at most all"
            )

    @property
    def key_heads(self) -> int:
        """Heads of keys and values."""
        if self.kv_heads is None:
            return self.heads
        check_count("kv_heads", self.kv_heads)
        return self.kv_heads

    @property
    def head_width(self) -> int:
        """Numbers of one head."""
        return self.hidden // self.heads if self.head_size is None else self.head_size

    @property
    def width(self) -> int:
        """Numbers between the two layers of a feed-forward network."""
        return 4 * self.hidden if self.feed_forward is None else self.feed_forward

    @property
    def expert_width(self) -> int:
        """As `width`, of one expert."""
        return self.width if self.expert_feed_forward is None else self.expert_feed_forward

    @property
    def parameters(self) -> int:
        """All parameters; tied embeddings count once."""
        whole = stage_parameters(self, Parallelism(), stage=0)
        return sum(parameter.elements for parameter in whole)


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter, and its dimension that tensor parallelism divides; None: every rank has all."""

    shape: Shape
    divided: int | None = None
    count: int = 1
    is_expert: bool = False


def stage_parameters(
    model: Transformer, parallelism: Parallelism, *, stage: int
) -> tuple[Parameter, ...]:
    """Parameters of a rank of one pipeline stage, as tensor and expert parallelism leave them.

    A head tied to the embedding is a copy of its own where the two are on different stages.
    """
    dense, routed = blocks_of_stage(model, parallelism, stage)
    weights = [
        *(_times(weight, dense + routed) for weight in _attention(model)),
        *(_times(weight, dense) for weight in _feed_forward(model, model.width)),
        *(_times(weight, routed) for weight in _experts(model)),
    ]
    is_first, is_last = stage == 0, stage == parallelism.pipeline - 1
    weights += _embeddings(model) if is_first else ()
    weights += _head(model, has_embedding=is_first) if is_last else ()
    return tuple(_local(weight, parallelism) for weight in weights if weight.count)


def blocks_of_stage(model: Transformer, parallelism: Parallelism, stage: int) -> tuple[int, int]:
    """Blocks of a stage with one feed-forward network, and with experts."""
    counts = parallelism.layers_of_stages(model.layers)
    before = sum(counts[:stage])
    without_experts = model.dense_layers if model.experts else model.layers
    dense = max(0, min(without_experts - before, counts[stage]))
    return dense, counts[stage] - dense


def _times(weight: Weight, count: int) -> Weight:
    return replace(weight, count=weight.count * count)


def _embeddings(model: Transformer) -> Iterator[Weight]:
    yield Weight((model.vocabulary, model.hidden), divided=0)
    if model.positions:
        yield Weight((model.positions, model.hidden))


def _head(model: Transformer, *, has_embedding: bool) -> Iterator[Weight]:
    yield from _norm(model, model.hidden)
    if not (model.tied_embeddings and has_embedding):
        yield Weight((model.vocabulary, model.hidden), divided=0)
    if model.head_bias:
        yield Weight((model.vocabulary,), divided=0)


def _attention(model: Transformer) -> Iterator[Weight]:
    for _ in range(model.norms):
        yield from _norm(model, model.hidden)
    query, key = (heads * model.head_width for heads in (model.heads, model.key_heads))
    for out in (query, key, key):
        yield from _line(model.hidden, out, divided=0, bias=model.qkv_bias)
    yield from _line(query, model.hidden, divided=1, bias=model.output_bias)
    if model.head_norms:
        yield from (*_norm(model, model.head_width), *_norm(model, model.head_width))


def _experts(model: Transformer) -> Iterator[Weight]:
    yield Weight((model.experts, model.hidden))  # the router
    for weight in _feed_forward(model, model.expert_width):
        yield replace(weight, count=model.experts * weight.count, is_expert=True)


def _feed_forward(model: Transformer, width: int) -> Iterator[Weight]:
    for _ in range(2 if model.gated else 1):
        yield from _line(model.hidden, width, divided=0, bias=model.feed_forward_bias)
    yield from _line(width, model.hidden, divided=1, bias=model.feed_forward_bias)


def _line(wide: int, narrow: int, *, divided: int, bias: bool) -> Iterator[Weight]:
    """Divided by its output, with its bias, or by its input, with the bias on every rank."""
    yield Weight((narrow, wide), divided)
    if bias:
        yield Weight((narrow,), 0 if divided == 0 else None)


def _norm(model: Transformer, size: int) -> Iterator[Weight]:
    yield Weight((size,), count=2 if model.norm_bias else 1)


def _local(weight: Weight, parallelism: Parallelism) -> Parameter:
    shape = list(weight.shape)
    if weight.divided is not None:
        shape[weight.divided] //= parallelism.tensor
    count = weight.count // parallelism.expert if weight.is_expert else weight.count
    return Parameter(shape=tuple(shape), count=count, is_expert=weight.is_expert)


def check_degrees(model: Transformer, parallelism: Parallelism) -> None:
    """Raise MemreqError where a degree does not divide what it is to divide."""
    tensor = parallelism.tensor
    parallelism.layers_of_stages(model.layers)
    for what, amount in (
        ("heads", model.heads),
        ("kv_heads", model.key_heads),
        ("feed_forward", model.width),
        ("expert_feed_forward", model.expert_width),
    ):
        check_divides(what, amount, "tensor", tensor)
    padded = -(-model.vocabulary // (128 * tensor)) * 128 * tensor
    check_divides("vocabulary", model.vocabulary, "tensor", tensor, f"pad it, say to {padded}")
    if parallelism.expert > 1:
        if not model.experts:
            raise MemreqError(f"expert={parallelism.expert} for a model without experts")
        check_divides("experts", model.experts, "expert", parallelism.expert)
