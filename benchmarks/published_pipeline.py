"""A language model over the stages of a pipeline, as fairscale's benchmark has it (case B31).

After commit 44b9bcd8 of January 2021, which added the figures. Pipe's own work is left out but for
one thing, that it retains the graph: a stage is run alone, with an input and a gradient that are
there. The torch of then is followed where it matters: attention is written out, gradients are set
to zero rather than let go, and workspaces of cuBLAS were not in the caching allocator. The
vocabulary is that of WikiText-2 by torchtext's basic_english, with two special tokens; the first
device had the whole model before it was divided.
"""

import math
from functools import partial

import torch
from torch import nn
from torch.nn.functional import linear

from benchmarks.published_case import Case

WIDTH, HEADS, CLASSES, LENGTH, BATCH = 2048, 32, 28_783, 31, 8
BALANCE = (4, 3, 3, 3)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.empty(3 * WIDTH, WIDTH))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * WIDTH))
        self.out_proj = nn.Linear(WIDTH, WIDTH)

    def heads_of(self, x):
        return x.contiguous().view(LENGTH, BATCH * HEADS, WIDTH // HEADS).transpose(0, 1)

    def forward(self, x, mask):
        q, k, v = linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        q = q * (WIDTH // HEADS) ** -0.5
        q, k, v = self.heads_of(q), self.heads_of(k), self.heads_of(v)
        weights = torch.bmm(q, k.transpose(1, 2))
        weights += mask.unsqueeze(0)
        weights = torch.softmax(weights, dim=-1)
        output = torch.bmm(weights, v)
        output = output.transpose(0, 1).contiguous().view(LENGTH, BATCH, WIDTH)
        return self.out_proj(output)


class Layer(nn.Module):
    """Its dropouts are of probability 0."""

    def __init__(self):
        super().__init__()
        self.self_attn = Attention()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.ff = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
        self.src_mask = None

    def forward(self, src):
        if self.src_mask is None:
            self.src_mask = torch.zeros(LENGTH, LENGTH).to(src.device)
        x = self.norm1(src + self.self_attn(src, self.src_mask))
        return self.norm2(x + self.ff(x))


class Embedding(nn.Embedding):
    def forward(self, src):
        return super().forward(src) * math.sqrt(WIDTH)


class Positions(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("pe", torch.zeros(5000, 1, WIDTH))

    def forward(self, x):
        return x + self.pe[: x.size(0), :]


def layers():
    return [
        Embedding(CLASSES, WIDTH),
        Positions(),
        *(Layer() for _ in range(10)),
        nn.Linear(WIDTH, CLASSES),
    ]


def stage(rank):
    """The layers of a stage, on the card; the first's were there with all others."""
    with torch.device("meta"):
        parts = layers()
    if rank == 0:
        parts = [part.to_empty(device="cuda") for part in parts]
    first = sum(BALANCE[:rank])
    return nn.Sequential(*parts[first : first + BALANCE[rank]]).to_empty(device="cuda")


def result_of(model, rank):
    if rank == 0:
        return model(torch.zeros(LENGTH, BATCH, dtype=torch.int64).cuda())
    return model(torch.zeros(LENGTH, BATCH, WIDTH, device="cuda", requires_grad=True))


def graph_of(output, rank):
    """What holds the graph once backward is done, and the gradient that comes back."""
    if rank < len(BALANCE) - 1:
        return output.grad_fn, output.backward, torch.zeros_like(output)
    target = torch.zeros(LENGTH * BATCH, dtype=torch.int64).cuda()
    loss = nn.functional.cross_entropy(output.view(-1, CLASSES), target)
    return (output, loss), loss.backward, None


def training(rank):
    """The graph is retained, and there until the loss of the next batch is."""
    model = stage(rank)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, foreach=False)
    for _ in range(3):
        optimizer.zero_grad(set_to_none=False)
        output = result_of(model, rank)
        held, backward, gradient = graph_of(output, rank)
        backward(gradient, retain_graph=True)
        del output, backward, gradient
        torch.nn.utils.clip_grad_value_(model.parameters(), 0.05, foreach=False)
        optimizer.step()
    assert held
    return torch.cuda.max_memory_allocated()


CASES = [
    Case(
        "B31",
        "Tesla V100-SXM2-32GB",
        {f"pipe rank {rank}": partial(training, rank) for rank in range(4)},
        workspaces=":0:0",
    )
]
