"""GPT-2 small (Radford et al., 2019): a vocabulary of 50,257 tokens, a context of 1,024."""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class Cache:
    """Keys and values of the tokens that one layer has seen."""

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    @property
    def length(self) -> int:
        """Tokens seen so far."""
        return 0 if self.keys is None else self.keys.size(-2)

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add those of new tokens; return all."""
        if self.keys is not None and self.values is not None:
            keys = torch.cat([self.keys, keys], dim=-2)
            values = torch.cat([self.values, values], dim=-2)
        self.keys, self.values = keys, values
        return keys, values


class Attention(nn.Module):
    """Every token looks at itself and at those before it."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, cache: Cache | None) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if cache is not None:
            k, v = cache.extend(k, v)
        attended = scaled_dot_product_attention(
            q,
            k,
            v,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=q.size(-2) > 1,  # a single new token may look at all
        )
        out: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """Attention, then two layers on each token alone; both normalise what they are given."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads, dropout)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, cache: Cache | None) -> Tensor:
        attended = x + self.dropout(self.attention(self.norm1(x), cache))
        out: Tensor = attended + self.dropout(self.mlp(self.norm2(attended)))
        return out


class GPT(nn.Module):
    """Twelve blocks; the head shares the token embedding's weights: 124,439,808 parameters."""

    def __init__(
        self,
        *,
        vocabulary: int = 50257,
        context: int = 1024,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.apply(initialise)
        self.head.weight = self.tokens.weight

    def forward(self, tokens: Tensor, caches: list[Cache] | None = None) -> Tensor:
        """Logits of the token after each one given; with caches, of the token after the last."""
        seen = caches[0].length if caches else 0
        positions = torch.arange(seen, seen + tokens.size(1), device=tokens.device)
        x = self.dropout(self.tokens(tokens) + self.positions(positions))
        for layer, block in enumerate(self.blocks):
            x = block(x, caches[layer] if caches else None)
        logits: Tensor = self.head(self.norm(x[:, -1:] if caches else x))
        return logits


def gpt_3() -> GPT:
    """The 175B of Brown et al. (2020): make it under `torch.device("meta")`, it fits no card."""
    return GPT(context=2048, width=12288, depth=96, heads=96)


def initialise(module: nn.Module) -> None:
    """Draw weights as GPT-2 did; torch's default for embeddings is 50 times as wide."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


@torch.inference_mode()
def generate(model: GPT, prompt: Tensor, length: int) -> Tensor:
    """The prompt and the `length` tokens that the model finds most likely to follow."""
    caches = [Cache() for _ in model.blocks]
    text = latest = prompt
    for _ in range(length):
        latest = model(latest, caches)[:, -1].argmax(dim=-1, keepdim=True)
        text = torch.cat([text, latest], dim=1)
    return text
