"""Activations of a transformer in bytes, term by term.

Korthikanti et al., Reducing Activation Recomputation in Large Transformer Models (arXiv
2205.05198), section 4 and table 2, whose coefficients are bytes for numbers of 2 bytes. In their
letters: s tokens of a sequence, b sequences of a micro-batch, h hidden, a heads, t tensor-parallel
ranks. What they leave out (shared key heads, gated networks, experts, fused attention) is counted
in their way: what backward needs of each operator's input, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from pytest_memreq.errors import MemreqError
from pytest_memreq.estimate.lookup import check_count, check_divides, row_of
from pytest_memreq.estimate.parallelism import Parallelism
from pytest_memreq.estimate.transformer import Transformer

Region = Literal["repeated", "divided", "core"]
MASK_BYTES = 1
SINGLE_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one rank works on at a time: sequences of a micro-batch, tokens of each, bytes a number.

    `recompute` is "none", "selective" (the core of attention) or "full" (whole blocks).
    """

    sequences: int
    tokens: int
    compute_bytes: int
    recompute: str = "none"

    @property
    def all_tokens(self) -> int:
        """s b."""
        return self.sequences * self.tokens


@dataclass(frozen=True, slots=True)
class Activation:
    """Bytes that one block keeps for backward.

    Tensor parallelism divides some and repeats others on each rank; sequence parallelism divides
    these as well. The core of attention is what selective recomputation does not keep.
    """

    name: str
    bytes: int
    region: Region


def block_activations(model: Transformer, work: Work, *, has_experts: bool) -> Iterator[Activation]:
    """Everything one block keeps without recomputation: s b h (34 + 5 a s / h) for GPT."""
    yield from _around(model, work)
    yield from _attention(model, work)
    yield from _core(model, work)
    yield from (_experts if has_experts else _feed_forward)(model, work)


def _around(model: Transformer, work: Work) -> Iterator[Activation]:
    """10 s b h: inputs of the norms and of attention and network, masks of both dropouts."""
    numbers = work.all_tokens * model.hidden
    for name in (*["norm"] * model.norms, "attention input", "feed-forward input"):
        yield Activation(name, numbers * work.compute_bytes, "repeated")
    if model.dropout:
        yield Activation("masks of dropout", 2 * numbers * MASK_BYTES, "repeated")


def _attention(model: Transformer, work: Work) -> Iterator[Activation]:
    """8 s b h: queries, keys, values, and what the output layer is given."""
    number_bytes = work.all_tokens * model.head_width * work.compute_bytes
    yield Activation("queries", model.heads * number_bytes, "divided")
    yield Activation("keys and values", 2 * model.key_heads * number_bytes, "divided")
    yield Activation("attended", model.heads * number_bytes, "divided")


def _core(model: Transformer, work: Work) -> Iterator[Activation]:
    """5 a s^2 b: softmax, mask and output of its dropout; fused, a number of each row alone."""
    rows = model.heads * work.all_tokens
    if model.fused_attention:
        yield Activation("logsumexp", rows * SINGLE_BYTES, "divided")
        return
    scores = rows * work.tokens
    yield Activation("softmax", scores * work.compute_bytes, "core")
    if model.dropout:
        yield Activation("mask of its dropout", scores * MASK_BYTES, "core")
        yield Activation("dropout of softmax", scores * work.compute_bytes, "core")


def _feed_forward(model: Transformer, work: Work) -> Iterator[Activation]:
    """16 s b h: the inputs of the activation function and of the second layer, 4 h wide each.

    Gated there are four: of the function, of both sides of the product, and of the last layer.
    """
    kept = 4 if model.gated else 2
    bytes_ = kept * work.all_tokens * model.width * work.compute_bytes
    yield Activation("feed-forward", bytes_, "divided")


def _experts(model: Transformer, work: Work) -> Iterator[Activation]:
    """As one network for each expert of a token, the token's copy for it, and the router's softmax.

    Tokens are taken to be spread evenly over the experts.
    """
    routed = model.experts_per_token * work.all_tokens
    kept = 4 if model.gated else 2
    yield Activation("experts", kept * routed * model.expert_width * work.compute_bytes, "divided")
    yield Activation("tokens of experts", routed * model.hidden * work.compute_bytes, "repeated")
    yield Activation("router", work.all_tokens * model.experts * SINGLE_BYTES, "repeated")


def block_bytes(
    model: Transformer, work: Work, parallelism: Parallelism, *, has_experts: bool = False
) -> int:
    """Bytes of one block on one rank, with its recomputation (table 2; 2 s b h for all of it)."""
    return _RECOMPUTED[work.recompute](model, work, parallelism, has_experts)


def _kept_whole(model: Transformer, work: Work, parallelism: Parallelism, experts: bool) -> int:
    return sum(
        _on_rank(kept, parallelism) for kept in block_activations(model, work, has_experts=experts)
    )


def _kept_but_the_core(
    model: Transformer, work: Work, parallelism: Parallelism, experts: bool
) -> int:
    kept = block_activations(model, work, has_experts=experts)
    return sum(_on_rank(each, parallelism) for each in kept if each.region != "core")


def _kept_input(model: Transformer, work: Work, _: Parallelism, __: bool) -> int:
    return work.all_tokens * model.hidden * work.compute_bytes


_RECOMPUTED: dict[str, Callable[[Transformer, Work, Parallelism, bool], int]] = {
    "none": _kept_whole,
    "selective": _kept_but_the_core,
    "full": _kept_input,
}
RECOMPUTATIONS = {name: name for name in _RECOMPUTED}


def _on_rank(kept: Activation, parallelism: Parallelism) -> int:
    is_divided = kept.region != "repeated" or parallelism.sequence
    return kept.bytes // parallelism.tensor if is_divided else kept.bytes


def working_bytes(model: Transformer, work: Work, parallelism: Parallelism) -> int:
    """Bytes that come and go while one block's backward computes anew what was not kept.

    ZeRO-Infinity (arXiv 2104.07857), equation 5, counts the same for its own block.
    """
    kinds = {bool(model.experts), bool(model.experts) and not model.dense_layers}
    return max(
        _kept_whole(model, work, parallelism, has_experts)
        - block_bytes(model, work, parallelism, has_experts=has_experts)
        for has_experts in kinds
    )


def embedding_bytes(model: Transformer, work: Work, parallelism: Parallelism) -> int:
    """Bytes of the dropout after the embedding, s b h (section 4.3)."""
    mask = Activation("mask", work.all_tokens * model.hidden * MASK_BYTES, "repeated")
    return _on_rank(mask, parallelism) if model.dropout else 0


def head_bytes(model: Transformer, work: Work, parallelism: Parallelism) -> int:
    """Bytes of the last norm, the head and the loss: 4 s b h (1 + v / h), over t (section 4.3)."""
    inputs = 2 * work.all_tokens * model.hidden * work.compute_bytes
    logits = work.all_tokens * model.vocabulary * SINGLE_BYTES
    return _on_rank(Activation("norm and head", inputs, "repeated"), parallelism) + _on_rank(
        Activation("logits", logits, "divided"), parallelism
    )


def cache_bytes(model: Transformer, work: Work, parallelism: Parallelism, *, layers: int) -> int:
    """Bytes of keys and values of `layers` blocks: 2 s b (heads of keys) x (width of a head).

    Pope et al., Efficiently Scaling Transformer Inference (arXiv 2211.05102), section 2.1.
    """
    numbers = 2 * layers * work.all_tokens * model.key_heads * model.head_width
    return numbers * work.compute_bytes // parallelism.tensor


def check_work(model: Transformer, work: Work, parallelism: Parallelism) -> None:
    """Raise MemreqError where the work is none, or sequence parallelism cannot divide it."""
    check_count("sequence_length", work.tokens)
    row_of(RECOMPUTATIONS, "recompute", work.recompute)
    if model.positions and work.tokens > model.positions:
        raise MemreqError(
            f"sequence_length={work.tokens} is more than the model's {model.positions} positions"
        )
    if parallelism.sequence:
        check_divides("sequence_length", work.tokens, "tensor", parallelism.tensor)
