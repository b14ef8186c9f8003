"""One rank of four that train a Llama 2 7B, by tensor parallelism and FSDP (case B34).

The examples are those of the commits that added the figures, 0c8a193d3c and c8059d7bfd of May 2024,
which printed torch.cuda.max_memory_reserved. Setting the weights, in place, is left out. FSDP and
DTensor were those of torch 2.3.
"""

import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    loss_parallel,
    parallelize_module,
)
from torch.nn.functional import cross_entropy, scaled_dot_product_attention, silu

from benchmarks.published_case import Case

WIDTH, HIDDEN, DEPTH, HEADS, CLASSES, LENGTH, BATCH = 4096, 11008, 32, 32, 32000, 128, 8


def precompute_freqs_cis(head, end):
    freqs = 1.0 / (10_000 ** (torch.arange(0, head, 2)[: (head // 2)].float() / head))
    t = torch.arange(end, device=freqs.device)
    freqs = torch.outer(t, freqs).float()
    return torch.polar(torch.ones_like(freqs), freqs)


def apply_rotary_emb(xq, xk, freqs_cis):
    xq_ = torch.view_as_complex(xq.float().reshape(*xq.shape[:-1], -1, 2))
    xk_ = torch.view_as_complex(xk.float().reshape(*xk.shape[:-1], -1, 2))
    freqs_cis = freqs_cis.view(1, xq_.shape[1], 1, xq_.shape[-1])
    xq_out = torch.view_as_real(xq_ * freqs_cis).flatten(3)
    xk_out = torch.view_as_real(xk_ * freqs_cis).flatten(3)
    return xq_out.type_as(xq), xk_out.type_as(xk)


class RMSNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def normed(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)

    def forward(self, x):
        output = self.normed(x.float()).type_as(x)
        return output * self.weight


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.n_heads = HEADS
        self.wq, self.wk, self.wv, self.wo = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))

    def forward(self, x, freqs_cis):
        batch, length, _ = x.shape
        shape = (batch, length, self.n_heads, WIDTH // HEADS)
        xq, xk, xv = self.wq(x), self.wk(x), self.wv(x)
        xq, xk, xv = xq.view(shape), xk.view(shape), xv.view(shape)
        xq, xk = apply_rotary_emb(xq, xk, freqs_cis)
        xq, xk, xv = (part.transpose(1, 2) for part in (xq, xk, xv))
        output = scaled_dot_product_attention(xq, xk, xv, is_causal=True)
        output = output.transpose(1, 2).contiguous()
        return self.wo(output.view(batch, length, -1))


class FeedForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.w1, self.w3 = (nn.Linear(WIDTH, HIDDEN, bias=False) for _ in range(2))
        self.w2 = nn.Linear(HIDDEN, WIDTH, bias=False)

    def forward(self, x):
        return self.w2(silu(self.w1(x)) * self.w3(x))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.feed_forward = Attention(), FeedForward()
        self.attention_norm, self.ffn_norm = RMSNorm(), RMSNorm()

    def forward(self, x, freqs_cis):
        h = x + self.attention(self.attention_norm(x), freqs_cis)
        return h + self.feed_forward(self.ffn_norm(h))


class Transformer(nn.Module):
    def __init__(self, positions):
        super().__init__()
        self.tok_embeddings = nn.Embedding(CLASSES, WIDTH)
        freqs_cis = precompute_freqs_cis(WIDTH // HEADS, 2 * positions)
        self.register_buffer("freqs_cis", freqs_cis)
        self.layers = nn.ModuleList(Block() for _ in range(DEPTH))
        self.norm = RMSNorm()
        self.output = nn.Linear(WIDTH, CLASSES, bias=False)

    def forward(self, tokens):
        h = self.tok_embeddings(tokens)
        freqs_cis = self.freqs_cis[0 : tokens.shape[1]]
        for layer in self.layers:
            h = layer(h, freqs_cis)
        return self.output(self.norm(h)).float()


def plan_of_block():
    whole = {"desired_input_layouts": (Replicate(), None)}
    return {
        "attention": PrepareModuleInput(input_layouts=(Shard(1), None), **whole),
        "attention.wq": ColwiseParallel(),
        "attention.wk": ColwiseParallel(),
        "attention.wv": ColwiseParallel(),
        "attention.wo": RowwiseParallel(output_layouts=Shard(1)),
        "attention_norm": SequenceParallel(),
        "feed_forward": PrepareModuleInput(
            input_layouts=(Shard(1),), desired_input_layouts=(Replicate(),)
        ),
        "feed_forward.w1": ColwiseParallel(),
        "feed_forward.w2": RowwiseParallel(output_layouts=Shard(1)),
        "feed_forward.w3": ColwiseParallel(),
        "ffn_norm": SequenceParallel(),
    }


def divided_by_tensors(model, mesh):
    plan = {
        "tok_embeddings": RowwiseParallel(input_layouts=Replicate()),
        "output": ColwiseParallel(input_layouts=Shard(1), output_layouts=Replicate()),
        "norm": SequenceParallel(),
        "layers.0": PrepareModuleInput(
            input_layouts=(Replicate(), None),
            desired_input_layouts=(Shard(1), None),
            use_local_output=True,
        ),
    }
    model = parallelize_module(model, mesh, plan)
    for block in model.layers:
        block.attention.n_heads //= mesh.size()
        parallelize_module(block, mesh, plan_of_block())
    return model


def parallelize(model):
    mesh = init_device_mesh("cuda", (2, 2), mesh_dim_names=("data_parallel", "tensor_parallel"))
    model = divided_by_tensors(model, mesh["tensor_parallel"])
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    options = {"mesh": mesh["data_parallel"], "mp_policy": policy}
    for at, block in enumerate(model.layers):
        model.layers[at] = checkpoint_wrapper(block)
        last = at == len(model.layers) - 1
        fully_shard(model.layers[at], **options, reshard_after_forward=not last)
    return fully_shard(model, **options)


def on_card(positions):
    with torch.device("meta"):
        model = Transformer(positions)
    model = parallelize(model)
    return model.to_empty(device="cuda")


def loss_of(model):
    batch = torch.zeros(BATCH, LENGTH + 1, dtype=torch.int64).to("cuda")
    inputs = batch[:, :-1]
    labels = batch[:, 1:]
    output = model(inputs)
    with loss_parallel():
        return cross_entropy(output.reshape(-1, output.size(-1)), labels.reshape(-1))


def fabric(steps=2):
    """The optimizer was made first, of weights that were replaced: it steps and clears nothing."""
    model = on_card(positions=32768)
    for _ in range(steps):
        loss = loss_of(model)
        loss.backward()
    return torch.cuda.max_memory_reserved()


def trainer(steps=2):
    model = on_card(positions=2048)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, foreach=True)
    for _ in range(steps):
        loss = loss_of(model)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return torch.cuda.max_memory_reserved()


CASES = [
    Case(
        "B34",
        "NVIDIA A100-SXM4-40GB",
        {"Fabric": fabric, "Trainer": trainer},
        ranks={"Fabric": (4, 0), "Trainer": (4, 0)},
    )
]
