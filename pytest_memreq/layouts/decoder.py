"""A transformer's configuration as modules of torch, without values, to be simulated.

It has the parameters that `estimate` counts, and keeps for backward what such a decoder keeps.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from pytest_memreq.estimate.transformer import Transformer

DROPPED = 0.1
Rotation = tuple[Tensor, Tensor] | None


def _norm(model: Transformer, size: int) -> nn.Module:
    return nn.LayerNorm(size) if model.norm_bias else nn.RMSNorm(size)


def _dropout(model: Transformer) -> nn.Module:
    return nn.Dropout(DROPPED) if model.dropout else nn.Identity()


class Attention(nn.Module):
    """Heads may be on other ranks, so their number is read off what the layers give."""

    def __init__(self, model: Transformer, *, recomputes: bool) -> None:
        super().__init__()
        size, query = model.head_width, model.heads * model.head_width
        key = model.key_heads * size
        self.size, self.is_fused, self.recomputes = size, model.fused_attention, recomputes
        self.q = nn.Linear(model.hidden, query, bias=model.qkv_bias)
        self.k = nn.Linear(model.hidden, key, bias=model.qkv_bias)
        self.v = nn.Linear(model.hidden, key, bias=model.qkv_bias)
        self.out = nn.Linear(query, model.hidden, bias=model.output_bias)
        self.q_norm = _norm(model, size) if model.head_norms else nn.Identity()
        self.k_norm = _norm(model, size) if model.head_norms else nn.Identity()
        self.dropped = DROPPED if model.dropout else 0.0

    def forward(self, x: Tensor, rotation: Rotation) -> Tensor:
        """Hidden numbers of the sequences, mixed over their tokens."""
        q, k, v = (
            layer(x).unflatten(-1, (-1, self.size)).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        q, k = _rotated(self.q_norm(q), rotation), _rotated(self.k_norm(k), rotation)
        mixed = self._core()(q, k, v)
        return self.out(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]  # modules give Any

    def _core(self) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        core = self._fused if self.is_fused else self._products
        if not self.recomputes:
            return core
        return lambda q, k, v: checkpoint(core, q, k, v, use_reentrant=False)

    def _fused(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(
            q, k, v, dropout_p=self.dropped, is_causal=True, enable_gqa=q.shape[1] != k.shape[1]
        )

    def _products(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        each = q.shape[1] // k.shape[1]
        if each > 1:
            k, v = k.repeat_interleave(each, 1), v.repeat_interleave(each, 1)
        scores = (q @ k.transpose(-1, -2)) * self.size**-0.5
        return functional.dropout(scores.softmax(-1), self.dropped) @ v


def _rotated(x: Tensor, rotation: Rotation) -> Tensor:
    if rotation is None:
        return x
    cos, sin = rotation
    left, right = x.chunk(2, -1)
    return x * cos + torch.cat((-right, left), -1) * sin


class FeedForward(nn.Module):
    """Two layers, or three where it is gated."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        bias = model.feed_forward_bias
        self.gate = nn.Linear(model.hidden, model.width, bias=bias) if model.gated else None
        self.up = nn.Linear(model.hidden, model.width, bias=bias)
        self.down = nn.Linear(model.width, model.hidden, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Each token by itself."""
        if self.gate is None:
            return self.down(functional.gelu(self.up(x)))  # type: ignore[no-any-return]  # modules give Any
        return self.down(functional.silu(self.gate(x)) * self.up(x))  # type: ignore[no-any-return]  # modules give Any


class Block(nn.Module):
    """Attention and a feed-forward network, each after a norm; further norms are after them."""

    def __init__(self, model: Transformer, *, recomputes: bool) -> None:
        super().__init__()
        self.attention = Attention(model, recomputes=recomputes)
        self.feed_forward = FeedForward(model)
        norms = [_norm(model, model.hidden) for _ in range(model.norms)]
        self.norms = nn.ModuleList([*norms, *(nn.Identity() for _ in range(4 - model.norms))])
        self.drop_attention, self.drop = _dropout(model), _dropout(model)

    def forward(self, x: Tensor, rotation: Rotation) -> Tensor:
        """The block's input, with what its two halves add."""
        before, between, *after = self.norms
        x = x + self.drop_attention(after[0](self.attention(before(x), rotation)))
        return x + self.drop(after[1](self.feed_forward(between(x))))  # type: ignore[no-any-return]  # modules give Any


class Decoder(nn.Module):
    """Tokens to logits; a head tied to the embedding is its weight."""

    def __init__(self, model: Transformer, *, recompute: str) -> None:
        super().__init__()
        self.tokens = nn.Embedding(model.vocabulary, model.hidden)
        has_table = model.positions > 0
        self.positions = nn.Embedding(model.positions, model.hidden) if has_table else None
        self.drop = _dropout(model)
        recomputes = recompute == "selective"
        self.blocks = nn.ModuleList(
            Block(model, recomputes=recomputes) for _ in range(model.layers)
        )
        self.norm = _norm(model, model.hidden)
        is_tied = model.tied_embeddings
        self.head = None if is_tied else nn.Linear(model.hidden, model.vocabulary, bias=False)
        self.head_width = model.head_width

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits, a DTensor of this rank's part of the vocabulary where that is divided."""
        x = self.tokens(tokens)
        rotation = None
        if self.positions is None:
            rotation = self._rotation(tokens.shape[1], x)
        else:
            x = x + self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        x = self.drop(x)
        for block in self.blocks:
            x = block(x, rotation)
        return self._logits(self.norm(x))

    def _rotation(self, length: int, like: Tensor) -> Rotation:
        half = torch.arange(0, self.head_width, 2, device=like.device)
        angles = torch.outer(torch.arange(length, device=like.device), 1e4 ** -(half / 128))
        angles = torch.cat((angles, angles), -1)
        return angles.cos().to(like.dtype), angles.sin().to(like.dtype)

    def _logits(self, x: Tensor) -> Tensor:
        weight = (self.tokens if self.head is None else self.head).weight
        if isinstance(weight, DTensor):
            x = DTensor.from_local(x, weight.device_mesh, [Replicate()])
        return functional.linear(x, weight)
