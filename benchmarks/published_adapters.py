"""Low-rank adapters of lit-gpt's models (case B26).

The code is that of commit 0cc02afa of October 2023, which added the figures, with what Fabric does
with logits; attention is that of torch 2.1, without the package flash-attn. The first batch has the
longest sample, and no other is longer, so that is what is run; validation, which comes before it
and may leave blocks of other sizes, is left out. cuDNN runs a convolution for the adapters and may
take a workspace.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.nn.functional import (
    conv1d,
    cross_entropy,
    gelu,
    linear,
    silu,
)

from benchmarks.published_case import Case
from benchmarks.published_early import FirstFlash

CUDA = {"device": "cuda"}
BF16 = torch.bfloat16
RANK = 8


@dataclass(frozen=True)
class Shape:
    """What lit-gpt's Config says of a model."""

    depth: int
    heads: int
    width: int
    classes: int
    rotary: float
    hidden: int | None = None  # with a gate
    parallel: bool = True
    shared_norm: bool = False
    head_bias: bool = False

    @property
    def gated(self):
        return self.hidden is not None

    def norm(self):
        return RMSNorm(self.width) if self.gated else nn.LayerNorm(self.width)


PHI = Shape(24, 32, 2048, 51200, 0.5, shared_norm=True, head_bias=True)
STABLELM = Shape(16, 32, 4096, 50688, 0.25)
LLAMA_7B = Shape(32, 32, 4096, 32000, 1.0, hidden=11008, parallel=False)
LLAMA_13B = Shape(40, 40, 5120, 32000, 1.0, hidden=13824, parallel=False)


class RMSNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        dtype = x.dtype
        x = x.float()
        norm_x = torch.mean(x * x, dim=-1, keepdim=True)
        x_normed = x * torch.rsqrt(norm_x + 1e-5)
        return (self.weight * x_normed).to(dtype=dtype)


class AdaptedQKV(nn.Module):
    """Queries, keys and values of one product; queries and values have adapters."""

    def __init__(self, shape):
        super().__init__()
        width = shape.width
        self.linear = nn.Linear(width, 3 * width, bias=not shape.gated)
        self.lora_A = nn.Parameter(torch.zeros(2 * RANK, width))
        self.lora_B = nn.Parameter(torch.zeros(2 * width, RANK))
        self.dropout = nn.Dropout(0.05)
        self.adapted = [*range(width), *range(2 * width, 3 * width)]

    def zero_pad(self, x):
        x = x.transpose(0, 1)
        result = x.new_zeros((*x.shape[:-1], self.linear.out_features))
        result = result.view(-1, self.linear.out_features)
        result = result.index_copy(
            1, torch.tensor(self.adapted, device=result.device), x.reshape(-1, len(self.adapted))
        )
        return result.view((*x.shape[:-1], self.linear.out_features)).transpose(0, 1)

    def forward(self, x):
        pretrained = self.linear(x)
        after_a = linear(self.dropout(x), self.lora_A)
        after_b = conv1d(after_a.transpose(-2, -1), self.lora_B.unsqueeze(-1), groups=2)
        lora = self.zero_pad(after_b.transpose(-2, -1)) * 2.0
        return pretrained + lora


def apply_rope(x, cos, sin):
    half = x.size(-1) // 2
    x1 = x[..., :half]
    x2 = x[..., half:]
    rotated = torch.cat((-x2, x1), dim=-1)
    roped = (x * cos) + (rotated * sin)
    return roped.type_as(x)


class Attention(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.attn = AdaptedQKV(shape)
        self.proj = nn.Linear(shape.width, shape.width, bias=not shape.gated)
        self.heads, self.head = shape.heads, shape.width // shape.heads
        self.turned = int(shape.rotary * self.head)

    def forward(self, x, cos, sin):
        batch, length, width = x.size()
        qkv = self.attn(x)
        qkv = qkv.view(batch, length, self.heads, 3, self.head).permute(0, 2, 3, 1, 4)
        q, k, v = qkv.split((1, 1, 1), dim=2)
        q, k, v = (part.reshape(batch, -1, length, self.head) for part in (q, k, v))
        n = self.turned
        q_roped = apply_rope(q[..., :n], cos, sin)
        k_roped = apply_rope(k[..., :n], cos, sin)
        q = torch.cat((q_roped, q[..., n:]), dim=-1)
        k = torch.cat((k_roped, k[..., n:]), dim=-1)
        y = FirstFlash.apply(q, k, v, True)
        y = y.transpose(1, 2).reshape(batch, length, width)
        return self.proj(y)


class MLP(nn.Module):
    def __init__(self, shape):
        super().__init__()
        hidden, bias = shape.hidden or 4 * shape.width, not shape.gated
        self.fc_1 = nn.Linear(shape.width, hidden, bias=bias)
        self.fc_2 = nn.Linear(shape.width, hidden, bias=bias) if shape.gated else None
        self.proj = nn.Linear(hidden, shape.width, bias=bias)

    def forward(self, x):
        if self.fc_2 is None:
            return self.proj(gelu(self.fc_1(x)))
        x_fc_1 = self.fc_1(x)
        x_fc_2 = self.fc_2(x)
        x = silu(x_fc_1) * x_fc_2
        return self.proj(x)


class Block(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.norm_1, self.attn, self.mlp = shape.norm(), Attention(shape), MLP(shape)
        self.norm_2 = None if shape.shared_norm else shape.norm()
        self.parallel = shape.parallel

    def forward(self, x, cos, sin):
        n_1 = self.norm_1(x)
        h = self.attn(n_1, cos, sin)
        if self.parallel:
            n_2 = n_1 if self.norm_2 is None else self.norm_2(x)
            x = self.mlp(n_2) + h + x
        else:
            x = h + x
            x = self.mlp(self.norm_2(x)) + x
        return x


class GPT(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.lm_head = nn.Linear(shape.width, shape.classes, bias=shape.head_bias)
        self.wte = nn.Embedding(shape.classes, shape.width)
        self.h = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        self.ln_f = shape.norm()

    def forward(self, tokens, cos, sin):
        x = self.wte(tokens)
        for block in self.h:
            x = block(x, cos, sin)
        x = self.ln_f(x)
        return [self.lm_head(part) for part in x.split(128, dim=1)]


def chunked_cross_entropy(logits, targets):
    chunks = [chunk.reshape(-1, chunk.size(-1)) for chunk in logits]
    parts = [chunk.reshape(-1) for chunk in targets.split(logits[0].size(1), dim=1)]
    losses = [
        cross_entropy(chunk, part, ignore_index=-1, reduction="none")
        for chunk, part in zip(chunks, parts, strict=True)
    ]
    return torch.cat(losses).mean()


def frozen(shape):
    """The model on the card in bfloat16, of which only the adapters are trained."""
    torch.set_default_dtype(BF16)
    try:
        with torch.device("cuda"):
            model = GPT(shape)
    finally:
        torch.set_default_dtype(torch.float32)
    for name, weight in model.named_parameters():
        weight.requires_grad_("lora_" in name)
    return model


def fine_tuning(shape, length, batch):
    model = frozen(shape)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=3e-4, weight_decay=0.01)
    turned = int(shape.rotary * shape.width // shape.heads)
    cos, sin = (torch.zeros(length, turned, **CUDA) for _ in range(2))
    input_ids, targets = (torch.zeros(batch, length, dtype=torch.int64, **CUDA) for _ in range(2))
    logits = [chunk.float() for chunk in model(input_ids, cos, sin)]  # what Fabric does with them
    logits[-1] = logits[-1][..., :-1, :]
    loss = chunked_cross_entropy(logits, targets[..., 1:])
    (loss / (128 // batch)).backward()
    optimizer.step()
    return torch.cuda.max_memory_allocated()


CASES = [
    Case(
        "B26",
        "NVIDIA A100-SXM4-40GB",
        {
            f"{label} {batch}": partial(fine_tuning, shape, length, batch)
            for label, shape, length, batches in (
                ("phi-1.5 micro", PHI, 1044, (1, 2, 4)),
                ("StableLM-3B", STABLELM, 1034, (1, 2, 4)),
                ("Llama-2-7B", LLAMA_7B, 1304, (1, 2)),
                ("Llama-2-13B", LLAMA_13B, 1304, (1,)),
            )
            for batch in batches
        },
    )
]
