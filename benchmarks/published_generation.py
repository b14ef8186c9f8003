"""A GPT that generates with a cache, in six forms of attention and feed-forward (case A23).

After rasbt/LLMs-from-scratch, ch04/04_gqa to 07_moe. The peak comes with the last tokens, when the
caches are longest, so the caches are set as they would be and only the last tokens generated.
"""

from functools import partial

import torch
from torch import nn

LAST = 20  # tokens that are generated; with all 1,024 of the wide models the peaks are the same
GENERATED = 32_768
PROMPT = 4
WINDOW = 1024


class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.shift = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        mean = x.mean(dim=-1, keepdim=True)
        var = x.var(dim=-1, keepdim=True, unbiased=False)
        norm_x = (x - mean) / torch.sqrt(var + 1e-5)
        return self.scale * norm_x + self.shift


class Gelu(nn.Module):
    def forward(self, x):
        cubed = x + 0.044715 * torch.pow(x, 3)
        return 0.5 * x * (1 + torch.tanh(torch.sqrt(torch.tensor(2.0 / torch.pi)) * cubed))


class Attention(nn.Module):
    """Of all heads; `cached` are tokens that the caches hold at first."""

    def __init__(self, width, heads, window=None):
        super().__init__()
        self.heads, self.window, self.position = heads, window, 0
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.kept = []

    def start(self, cached):
        length = cached if self.window is None else min(cached, self.window)
        self.kept = [self.cache(length) for _ in range(2)]
        self.position = cached

    def cache(self, length):
        head = self.key.out_features // self.heads
        like = self.key.weight
        return torch.zeros(1, length, self.heads, head, dtype=like.dtype, device=like.device)

    def forward(self, x):
        keys_new, values_new, queries = self.key(x), self.value(x), self.query(x)
        fresh = [part.view(1, 1, self.heads, -1) for part in (keys_new, values_new)]
        queries = queries.view(1, 1, self.heads, -1)
        for at in range(2):  # the old keys go before the values are joined
            self.kept[at] = torch.cat([self.kept[at], fresh[at]], dim=1)
        if self.window is not None:
            self.kept = [part[:, -self.window :] for part in self.kept]
        keys, values = (part.transpose(1, 2) for part in self.kept)
        return self.out(self.attend(x, queries, keys, values))

    def attend(self, x, queries, keys, values):
        scores = queries.transpose(1, 2) @ keys.transpose(2, 3)
        scores.masked_fill_(self.mask(keys), -torch.inf)
        weights = torch.softmax(scores / keys.shape[-1] ** 0.5, dim=-1)
        context = (weights @ values).transpose(1, 2)
        return context.contiguous().view(*x.shape)

    def mask(self, keys):
        queries = torch.arange(self.position, self.position + 1, device=keys.device)
        self.position += 1
        others = torch.arange(keys.shape[2], device=keys.device)
        if self.window is None:
            return queries.unsqueeze(-1) < others.unsqueeze(0)
        behind = queries.unsqueeze(-1) - others.unsqueeze(0)
        return (behind < 0) | (behind >= self.window)


class GroupedAttention(Attention):
    """Keys and values of four groups, repeated for their heads."""

    def __init__(self, width, heads, groups=4):
        super().__init__(width, heads)
        head = width // heads
        self.groups = groups
        self.key, self.value = (nn.Linear(width, groups * head, bias=False) for _ in range(2))
        self.out = nn.Linear(width, width, bias=False)

    def cache(self, length):
        like = self.key.weight
        head = self.key.out_features // self.groups
        return torch.zeros(1, self.groups, length, head, dtype=like.dtype, device=like.device)

    def forward(self, x):
        queries, keys, values = self.query(x), self.key(x), self.value(x)
        queries = queries.view(1, 1, self.heads, -1)
        fresh = [part.view(1, 1, self.groups, -1).transpose(1, 2) for part in (keys, values)]
        for at in range(2):
            self.kept[at] = torch.cat([self.kept[at], fresh[at]], dim=2)
        keys, values = (
            part.repeat_interleave(self.heads // self.groups, dim=1) for part in self.kept
        )
        return self.out(self.attend(x, queries, keys, values))


class LatentAttention(Attention):
    """Keys and values are made anew from a cache of 192 numbers a token."""

    def __init__(self, width, heads, latent=192):
        super().__init__(width, heads)
        self.down = nn.Linear(width, latent, bias=False)
        self.key, self.value = (nn.Linear(latent, width, bias=False) for _ in range(2))

    def cache(self, length):
        like = self.down.weight
        return torch.zeros(1, length, like.shape[0], dtype=like.dtype, device=like.device)

    def start(self, cached):
        self.kept, self.position = [self.cache(cached)], cached

    def forward(self, x):
        queries, latent = self.query(x), self.down(x)
        self.kept[0] = latent = torch.cat([self.kept[0], latent], dim=1)
        keys, values = self.key(latent), self.value(latent)
        queries, keys, values = (
            part.view(1, part.shape[1], self.heads, -1).transpose(1, 2).contiguous()
            for part in (queries, keys, values)
        )
        return self.out(self.attend(x, queries.transpose(1, 2), keys, values))


class Gated(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.gate, self.up = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x):
        return self.down(nn.functional.silu(self.gate(x)) * self.up(x))


class Experts(nn.Module):
    """Of 32 experts two run for a token: values are pretended, so the first two do."""

    def __init__(self, width, hidden, count=32):
        super().__init__()
        self.route = nn.Linear(width, count, bias=False)
        self.experts = nn.ModuleList(Gated(width, hidden) for _ in range(count))

    def forward(self, x):
        scores, _ = torch.topk(self.route(x), 2, dim=-1)
        shares = torch.softmax(scores, dim=-1).reshape(-1, 2)
        flat = x.reshape(-1, x.shape[-1])
        result = torch.zeros_like(flat)
        for at in range(2):
            chosen = torch.zeros(1, dtype=torch.int64, device=x.device)
            made = self.experts[at](flat.index_select(0, chosen))
            result.index_add_(0, chosen, made * shares[:, at].unsqueeze(-1))
        return result.reshape(x.shape)


class Block(nn.Module):
    def __init__(self, width, attention, feed_forward):
        super().__init__()
        self.att, self.ff = attention, feed_forward
        self.norm1, self.norm2 = Norm(width), Norm(width)

    def forward(self, x):
        x = self.att(self.norm1(x)) + x
        y = self.norm2(x)
        if isinstance(self.ff, (Gated, Experts)):  # these two measure their feed-forward as well
            torch.cuda.reset_peak_memory_stats()
        return self.ff(y) + x


class Model(nn.Module):
    def __init__(self, width, context, blocks):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(50257, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(blocks)
        self.norm, self.head = Norm(width), nn.Linear(width, 50257, bias=False)

    def forward(self, token, position):
        at = torch.arange(position, position + 1, device=token.device)
        x = self.tokens(token) + self.positions(at).unsqueeze(0)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def mlp(width):
    return nn.Sequential(nn.Linear(width, 4 * width), Gelu(), nn.Linear(4 * width, width))


def generate(make_attention, *, width=768, heads=24, generated=GENERATED, make_feed_forward=mlp):
    """Bytes at the peak of the last tokens."""
    with torch.device("meta"):
        blocks = [
            Block(width, make_attention(at, width, heads), make_feed_forward(width))
            for at in range(12)
        ]
        model = Model(width, generated + PROMPT, blocks)
    model = model.to(torch.bfloat16).to_empty(device="cuda").eval()
    cached = generated + PROMPT - LAST
    for block in model.blocks:
        block.att.start(cached)
    text = torch.zeros(1, cached, dtype=torch.int64, device="cuda")
    with torch.no_grad():
        logits = torch.zeros(1, 1, 50257, dtype=torch.bfloat16, device="cuda")
        for position in range(cached, cached + LAST):
            token = logits[:, -1].argmax(dim=-1, keepdim=True)
            text = torch.cat([text, token], dim=1)
            logits = model(token, position)
    return torch.cuda.max_memory_allocated()


def plain(_at, width, heads):
    return Attention(width, heads)


def windowed(at, width, heads):
    return Attention(width, heads, window=WINDOW if at % 6 < 5 else None)


WIDE = {"width": 4096, "heads": 16, "generated": 1024}
GENERATIONS = {
    "MHA": partial(generate, plain),
    "GQA, 4 kv groups": partial(generate, lambda _at, *sizes: GroupedAttention(*sizes)),
    "MLA, latent 192": partial(generate, lambda _at, *sizes: LatentAttention(*sizes)),
    "SWA window 1024, 5:1": partial(generate, windowed),
    "MoE setting, dense FFN 32768": partial(
        generate, plain, make_feed_forward=partial(Gated, hidden=32768), **WIDE
    ),
    "MoE, 32 experts of 1024, top 2": partial(
        generate, plain, make_feed_forward=partial(Experts, hidden=1024), **WIDE
    ),
}
