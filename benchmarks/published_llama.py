"""Llama as torchtune has it, trained whole and with adapters (cases B21 and B22).

Documents that are packed into a row are kept apart by a mask of blocks, which torchtune gives to a
compiled kernel; it saves what the flash attention that is called here saves.
"""

import copy
from functools import partial

import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.functional import cross_entropy, scaled_dot_product_attention, silu

from benchmarks.published_case import Case

CUDA = {"device": "cuda"}
BF16 = torch.bfloat16
A100 = "NVIDIA A100-SXM4-80GB"


class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x):
        full = x.float()
        normed = (full * torch.rsqrt(full.pow(2).mean(-1, keepdim=True) + 1e-5)).type_as(x)
        return normed * self.scale


class Rotary(nn.Module):
    """Of as many positions as the model may ever see; its table is in fp32."""

    def __init__(self, head, positions):
        super().__init__()
        theta = 1.0 / (10_000 ** (torch.arange(0, head, 2).float() / head))
        self.register_buffer("theta", theta, persistent=False)
        angles = torch.einsum("i, j -> ij", torch.arange(positions, dtype=theta.dtype), theta)
        cache = torch.stack([torch.cos(angles), torch.sin(angles)], dim=-1)
        self.register_buffer("cache", cache, persistent=False)

    def forward(self, x, position):
        table = self.cache[: x.size(1)] if position is None else self.cache[position]
        pairs = x.float().reshape(*x.shape[:-1], -1, 2)
        table = table.view(-1, pairs.size(1), 1, pairs.size(3), 2)
        turned = torch.stack(
            [
                pairs[..., 0] * table[..., 0] - pairs[..., 1] * table[..., 1],
                pairs[..., 1] * table[..., 0] + pairs[..., 0] * table[..., 1],
            ],
            -1,
        )
        return turned.flatten(3).type_as(x)


class Adapted(nn.Module):
    """A linear layer that is frozen, and its low-rank adapter."""

    def __init__(self, inputs, outputs, rank):
        super().__init__()
        self.frozen = nn.Linear(inputs, outputs, bias=False)
        self.frozen.weight.requires_grad_(False)
        self.lora_a = nn.Linear(inputs, rank, bias=False)
        self.lora_b = nn.Linear(rank, outputs, bias=False)

    def forward(self, x):
        return self.frozen(x) + 2.0 * self.lora_b(self.lora_a(x))


class Attention(nn.Module):
    def __init__(self, width, heads, groups, rotary, linear):
        super().__init__()
        self.heads, self.groups, self.head, self.rotary = heads, groups, width // heads, rotary
        self.q_proj = linear("q_proj", width, width)
        self.k_proj = linear("k_proj", width, groups * self.head)
        self.v_proj = linear("v_proj", width, groups * self.head)
        self.output_proj = linear("output_proj", width, width)

    def forward(self, x, position):
        batch, length, _ = x.shape
        q = self.q_proj(x)
        q = self.rotary(q.view(batch, length, self.heads, self.head), position).transpose(1, 2)
        k, v = self.k_proj(x), self.v_proj(x)
        k = self.rotary(k.view(batch, length, -1, self.head), position).transpose(1, 2)
        v = v.view(batch, length, -1, self.head).transpose(1, 2)
        if self.groups != self.heads:
            many = (batch, self.groups, self.heads // self.groups, -1, self.head)
            k = k.unsqueeze(2).expand(many).flatten(1, 2)
            v = v.unsqueeze(2).expand(many).flatten(1, 2)
        output = scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.output_proj(output.transpose(1, 2).contiguous().view(batch, length, -1))


class FeedForward(nn.Module):
    def __init__(self, width, hidden, linear):
        super().__init__()
        self.gate, self.up = (linear(name, width, hidden) for name in ("w1", "w3"))
        self.down = linear("w2", hidden, width)

    def forward(self, x):
        return self.down(silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    def __init__(self, attention, feed_forward, width):
        super().__init__()
        self.attn, self.mlp = attention, feed_forward
        self.sa_norm, self.mlp_norm = Norm(width), Norm(width)

    def forward(self, x, position):
        h = self.attn(self.sa_norm(x), position) + x
        return h + self.mlp(self.mlp_norm(h))


class Decoder(nn.Module):
    def __init__(self, shape, linear):
        super().__init__()
        width = shape["width"]
        rotary = Rotary(width // shape["heads"], shape["positions"])
        self.layers = nn.ModuleList(
            Block(
                Attention(width, shape["heads"], shape["groups"], rotary, linear),
                FeedForward(width, shape["hidden"], linear),
                width,
            )
            for _ in range(shape["depth"])
        )
        self.tok_embeddings = nn.Embedding(shape["classes"], width)
        self.norm = Norm(width)
        tied = shape["tied"]
        self.output = None if tied else nn.Linear(width, shape["classes"], bias=False)

    def logits(self, x):
        output = self.output or partial(nn.functional.linear, weight=self.tok_embeddings.weight)
        return output(x)

    def forward(self, tokens, position=None, chunks=0):
        h = self.tok_embeddings(tokens)
        for layer in self.layers:
            h = layer(h, position)
        h = self.norm(h)
        if chunks:
            return [self.logits(part) for part in h.tensor_split(chunks, dim=1)]
        return self.logits(h).float()


LLAMA_3_2_3B = {
    "depth": 28, "width": 3072, "heads": 24, "groups": 8, "hidden": 8192, "classes": 128_256,
    "positions": 131_072, "tied": True,
}  # fmt: skip
LLAMA_2_7B = {
    "depth": 32, "width": 4096, "heads": 32, "groups": 32, "hidden": 11008, "classes": 32_000,
    "positions": 4096, "tied": False,
}  # fmt: skip


def decoder(shape, linear=lambda _name, inputs, outputs: nn.Linear(inputs, outputs, bias=False)):
    """On the card and in bfloat16 from the start."""
    torch.set_default_dtype(BF16)
    try:
        with torch.device("cuda"):
            return Decoder(shape, linear)
    finally:
        torch.set_default_dtype(torch.float32)


def chunked_loss(logits, labels):
    """The logits of a chunk are converted to fp32 by themselves."""
    total = 0.0
    for part, label in zip(logits, labels.tensor_split(len(logits), dim=1), strict=True):
        total += cross_entropy(part.flatten(0, 1).float(), label.flatten(), reduction="sum")
    return total / (labels != -100).sum()


def loss_of(model, batch, chunks):
    labels = batch.pop("labels")
    ignored = torch.full((len(labels), 1), -100, **CUDA)
    logits = model(**batch, chunks=chunks)
    labels = torch.hstack((labels[..., 1:], ignored))
    if chunks:
        return chunked_loss(logits, labels)
    loss = cross_entropy(logits.reshape(-1, logits.size(-1)), labels.reshape(-1))
    del logits
    return loss


def packed_training(*, chunks=0, checkpoints=False, in_backward=False, steps=3):
    """B21: rows of 4096 tokens, batch 2; `fused` AdamW, whose states are of the weights' dtype.

    Without a fused optimizer the first row of the table could not be: it is less than five times
    the weights.
    """
    model = decoder(LLAMA_3_2_3B)
    if checkpoints:
        model.layers = nn.ModuleList(checkpoint_wrapper(layer) for layer in model.layers)
    make = partial(torch.optim.AdamW, lr=2e-5, fused=True)
    optimizer = stepping_in_backward(model, make) if in_backward else make(model.parameters())
    for _ in range(steps):
        batch = {name: torch.zeros(2, 4096, dtype=torch.int64, **CUDA) for name in NAMES}
        count = (batch["labels"] != -100).sum()
        loss = loss_of(model, batch, chunks) * count
        loss.backward()
        if optimizer is not None:
            for weight in model.parameters():
                weight.grad *= 1.0 / count
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    return torch.cuda.max_memory_allocated()  # what is active, but for blocks of other streams


NAMES = ("tokens", "labels", "position")


def stepping_in_backward(model, make):
    """An optimizer of each parameter, which steps as soon as the gradient is there."""
    optimizers = {weight: make([weight]) for weight in model.parameters()}

    def step(weight):
        optimizers[weight].step()
        optimizers[weight].zero_grad()

    for weight in model.parameters():
        weight.register_post_accumulate_grad_hook(step)


def adapted(name, inputs, outputs, *, rank=8, names=("q_proj", "v_proj")):
    if name in names:
        return Adapted(inputs, outputs, rank)
    return nn.Linear(inputs, outputs, bias=False)


def copied(shape, linear):
    """As in April 2024: the layers, tables and all, are copies of one, which is there until then."""
    model = decoder({**shape, "depth": 1}, linear)
    layer = model.layers[0]
    model.layers = nn.ModuleList(copy.deepcopy(layer) for _ in range(shape["depth"]))
    return model


def after_init(read):
    """B22: the model with its adapters, before anything ran."""
    model = copied(LLAMA_2_7B, adapted)
    assert model.norm.scale.dtype is BF16
    return read()


CASES = [
    Case(
        "B21", A100, {"+ packed": packed_training}
    ),
    Case(
        "B22",
        A100,
        {
            "LoRA after init, allocated": lambda: after_init(torch.cuda.max_memory_allocated),
            "LoRA after init, reserved": lambda: after_init(torch.cuda.max_memory_reserved),
        },
    ),
]
