"""Networks of common forms, and single operators with their backward, each twice.

As `cuda_scripts`, for a CUDA build and for the simulation.
"""

from functools import partial

import torch
from torch import nn
from torch.nn import functional
from torch.nn.functional import scaled_dot_product_attention as attention
from torch.utils.checkpoint import checkpoint

CUDA = {"device": "cuda"}
HALF, BF16 = torch.float16, torch.bfloat16
TIMES = 2


def perceptron():
    return nn.Sequential(
        nn.Linear(1000, 3000), nn.GELU(), nn.LayerNorm(3000), nn.Dropout(0.1), nn.Linear(3000, 700)
    )


def rows():
    return (torch.randn(777, 1000, **CUDA),), lambda result: result.square().mean()


class Encoder(nn.Module):
    def __init__(self, width=768, heads=12, depth=6, vocabulary=30_000):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.places = nn.Embedding(512, width)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, batch_first=True, activation="gelu"
        )
        self.layers = nn.TransformerEncoder(layer, depth)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, ids):
        places = torch.arange(ids.shape[1], device=ids.device)
        return self.head(self.layers(self.tokens(ids) + self.places(places)))


class Block(nn.Module):
    def __init__(self, width, heads, norm, bias):
        super().__init__()
        self.heads = heads
        self.first_norm = norm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)
        self.second_norm = norm(width)
        self.gate = nn.Linear(width, 4 * width, bias=bias)
        self.up = nn.Linear(width, 4 * width, bias=bias)
        self.down = nn.Linear(4 * width, width, bias=bias)

    def forward(self, x):
        batch, length, width = x.shape
        q, k, v = (
            part.view(batch, length, self.heads, -1).transpose(1, 2)
            for part in self.qkv(self.first_norm(x)).chunk(3, -1)
        )
        x = x + self.out(
            attention(q, k, v, is_causal=True).transpose(1, 2).reshape(batch, length, width)
        )
        h = self.second_norm(x)
        return x + self.down(functional.silu(self.gate(h)) * self.up(h))


class Decoder(nn.Module):
    def __init__(self, *, norm=nn.RMSNorm, bias=False, recomputed=False):
        super().__init__()
        width, heads, vocabulary = 1024, 16, 32_000
        self.tokens = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(Block(width, heads, norm, bias) for _ in range(6))
        self.norm = norm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.recomputed = recomputed

    def forward(self, ids):
        x = self.tokens(ids)
        for block in self.blocks:
            is_recomputed = self.recomputed and self.training
            x = checkpoint(block, x, use_reentrant=False) if is_recomputed else block(x)
        return self.head(self.norm(x))


def half_decoder():
    return Decoder().to(BF16)


def zeros(*shape):
    return torch.zeros(shape, dtype=torch.long, **CUDA)


def text(batch, length):
    ids = zeros(batch, length)
    return (ids,), lambda logits: functional.cross_entropy(logits.flatten(0, 1), ids.flatten())


def train(
    make, data, optimizer=torch.optim.AdamW, *, autocast=None, scaled=False, clip=False, batches=1
):
    """Two steps; `data` makes the inputs and the loss of a batch."""
    model = make().cuda()
    optimizer = optimizer(model.parameters())
    scaler = torch.amp.GradScaler("cuda", enabled=scaled)
    for _ in range(TIMES):
        for _ in range(batches):
            inputs, loss_of = data()
            with torch.autocast("cuda", dtype=autocast, enabled=autocast is not None):
                loss = loss_of(model(*inputs))
            scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()


def infer(make, batch, length, context=torch.inference_mode):
    model = make().cuda().eval()
    with context():
        for _ in range(TIMES):
            result = model(zeros(batch, length))
    return result


def numbers(*shape, **options):
    return torch.randn(*shape, **CUDA, requires_grad=True, **options)


def heads(size=64, dtype=BF16):
    return [numbers(2, 8, 512, size, dtype=dtype) for _ in range(3)]


def pooled():
    large = functional.max_pool2d(numbers(4, 64, 128, 128), 2)
    small = functional.adaptive_avg_pool2d(numbers(4, 64, 128, 128), 7)
    return large.sum() + small.sum()


def accumulated():
    values = torch.randn(4096, 512, **CUDA)
    return torch.randn(1000, 512, **CUDA).index_put_((zeros(4096),), values, accumulate=True)


def scattered():
    start = torch.zeros(1000, 512, **CUDA)
    return start.scatter_add(0, zeros(4000, 512), numbers(4000, 512)).sum()


def paired(loss):
    return loss(numbers(1000, 1000), torch.randn(1000, 1000, **CUDA))


def smoothed():
    logits = numbers(4096, 32_000)
    return functional.cross_entropy(logits, zeros(4096), label_smoothing=0.1)


def weighed():
    layer = nn.MultiheadAttention(512, 8, batch_first=True).cuda()
    return layer(*(numbers(4, 256, 512) for _ in range(3)))[0].sum()


# Each makes what is summed up to go backward from, if it has gradients.
OPERATORS = {
    "group norm": lambda: nn.GroupNorm(32, 256).cuda()(numbers(8, 256, 64, 64)),
    "batch norm": lambda: nn.BatchNorm2d(256).cuda()(numbers(8, 256, 64, 64)),
    "softmax": lambda: numbers(64, 50_000).softmax(-1),
    "logsumexp": lambda: numbers(64, 50_000).logsumexp(-1),
    "cumsum": lambda: numbers(64, 50_000).cumsum(-1),
    "sort": lambda: numbers(64, 50_000).sort(-1)[0],
    "topk": lambda: numbers(64, 50_000).topk(50)[0],
    "sum": lambda: numbers(10_000_019),
    "max": lambda: numbers(10_000_019).max(),
    "norm": lambda: numbers(10_000_019).norm(),
    "var": lambda: numbers(3000, 3001).var(0),
    "cat": lambda: torch.cat([numbers(1000, 1000), numbers(500, 1000)]),
    "index_put": accumulated,
    "index": lambda: numbers(1000, 512)[zeros(4096)],
    "gather": lambda: numbers(1000, 512).gather(0, zeros(1000, 512)),
    "scatter_add": scattered,
    "embedding": lambda: functional.embedding(zeros(8192), numbers(32_000, 512)),
    "embedding_bag": lambda: nn.EmbeddingBag(1000, 64).cuda()(zeros(64, 10)),
    "interpolate": lambda: functional.interpolate(
        numbers(4, 64, 64, 64), scale_factor=2, mode="bilinear"
    ),
    "pooling": pooled,
    "pad": lambda: functional.pad(numbers(4, 64, 128, 128), (1, 1, 1, 1), mode="reflect"),
    "binary cross-entropy": partial(paired, functional.binary_cross_entropy_with_logits),
    "smooth L1": partial(paired, functional.smooth_l1_loss),
    "cross-entropy, smoothed": smoothed,
    "einsum": lambda: torch.einsum(
        "bhqd,bhkd->bhqk", numbers(2, 8, 512, 64), numbers(2, 8, 512, 64)
    ),
    "attention, mask": lambda: attention(
        *heads(dtype=torch.float32), attn_mask=torch.ones(512, 512, dtype=torch.bool, **CUDA)
    ),
    "attention, bias in bf16": lambda: attention(
        *heads(), attn_mask=torch.randn(2, 8, 512, 512, dtype=BF16, **CUDA)
    ),
    "attention, dropout": lambda: attention(*heads(), dropout_p=0.1),
    "attention, heads of 80": lambda: attention(*heads(80)),
    "attention, weights asked for": weighed,
    "glu": lambda: functional.glu(numbers(2000, 4000)),
    "unique": lambda: torch.arange(100_000, **CUDA).unique(),
    "nonzero": lambda: torch.ones(100_000, **CUDA).nonzero(),
    "multinomial": lambda: torch.ones(64, 50_000, **CUDA).multinomial(1),
    "randperm": lambda: torch.randperm(1_000_000, **CUDA),
    "product": lambda: torch.randn(256, 256, **CUDA) @ torch.randn(256, 256, **CUDA),
}


def repeated(operator):
    for _ in range(TIMES):
        result = operator()
        if result.requires_grad:
            result = result.sum() if result.dim() else result
            result.backward()
        del result


def sgd(**options):
    return partial(torch.optim.SGD, lr=0.1, **options)


OPTIMIZERS = {
    "AdamW": torch.optim.AdamW,
    "SGD": sgd(),
    "SGD with momentum": sgd(momentum=0.9),
    "Adam, one by one": partial(torch.optim.Adam, foreach=False),
    "Adam, fused": partial(torch.optim.Adam, fused=True),
    "Adam, amsgrad": partial(torch.optim.Adam, amsgrad=True),
    "RMSprop, centered": partial(torch.optim.RMSprop, momentum=0.9, centered=True),
    "Adagrad": torch.optim.Adagrad,
    "Adafactor": torch.optim.Adafactor,
    "NAdam": torch.optim.NAdam,
}
FUSED = partial(torch.optim.AdamW, fused=True)
PAGE, PAGES = partial(text, 4, 512), partial(text, 2, 1024)

SMALL_SCRIPTS = {
    **{f"wide {name}": partial(train, perceptron, rows, made) for name, made in OPTIMIZERS.items()},
    "wide, bf16": partial(train, perceptron, rows, autocast=BF16),
    "wide, fp16 scaled": partial(train, perceptron, rows, autocast=HALF, scaled=True, clip=True),
    "wide, accumulated": partial(train, perceptron, rows, clip=True, batches=3),
    "encoder fp32": partial(train, Encoder, PAGE),
    "encoder bf16": partial(train, Encoder, PAGE, autocast=BF16),
    "gated fp32": partial(train, Decoder, PAGES),
    "gated bf16": partial(train, Decoder, PAGES, autocast=BF16),
    "gated pure bf16": partial(train, half_decoder, PAGES),
    "gated checkpointed": partial(train, partial(Decoder, recomputed=True), PAGES, autocast=BF16),
    "gated with biases": partial(
        train, partial(Decoder, norm=nn.LayerNorm, bias=True), partial(text, 1, 777), autocast=BF16
    ),
    "gated fused": partial(train, Decoder, PAGES, FUSED, autocast=BF16, clip=True),
    "gated, inference": partial(infer, half_decoder, 2, 2048),
    "gated, inference with gradients on": partial(infer, half_decoder, 2, 2048, torch.enable_grad),
    "encoder, inference": partial(infer, lambda: Encoder().half(), 2, 512),
    **{name: partial(repeated, operator) for name, operator in OPERATORS.items()},
}
