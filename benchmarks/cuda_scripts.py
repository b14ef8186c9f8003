"""Work of the kinds that people test, in plain torch, for a CUDA build and for the simulation.

Nothing here has a convolution: the build that recorded them has no cuDNN.
"""

import copy
from contextlib import nullcontext
from functools import partial

import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from benchmarks.double_backward_scripts import DOUBLE_BACKWARD_SCRIPTS
from benchmarks.operator_scripts import SMALL_SCRIPTS

CUDA = {"device": "cuda"}
HALF, BF16 = torch.float16, torch.bfloat16


def perceptron(width=1024, classes=500):
    return nn.Sequential(
        nn.Linear(784, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.LayerNorm(width),
        nn.SiLU(),
        nn.Dropout(0.1),
        nn.Linear(width, classes),
    )


def numbers(batch=300, classes=500):
    return torch.randn(batch, 784, **CUDA), torch.randint(classes, (batch,), **CUDA)


class Attention(nn.Module):
    """Of heads with their own sizes; `kind` is how the scores are weighed."""

    def __init__(self, width, heads, kind="causal", kv_heads=None, dropout=0.0):
        super().__init__()
        self.heads, self.kind, self.dropout = heads, kind, dropout
        self.kv_heads = kv_heads or heads
        self.size = width // heads
        self.q = nn.Linear(width, width, bias=False)
        self.k, self.v = (nn.Linear(width, self.kv_heads * self.size, bias=False) for _ in range(2))
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x):
        batch, length, _ = x.shape
        q = self.q(x).view(batch, length, self.heads, -1).transpose(1, 2)
        k, v = (
            part(x).view(batch, length, self.kv_heads, -1).transpose(1, 2)
            for part in (self.k, self.v)
        )
        return self.out(self.mixed(q, k, v).transpose(1, 2).reshape(x.shape))

    def mixed(self, q, k, v):
        length = q.shape[2]
        if self.kind == "by hand":
            scores = q @ k.transpose(-2, -1) / self.size**0.5
            mask = torch.ones(length, length, dtype=torch.bool, device=q.device).tril()
            weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
            return functional.dropout(weights, 0.1, self.training) @ v
        if self.kind == "bias":
            bias = torch.zeros(1, self.heads, length, length, dtype=q.dtype, device=q.device)
            return functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        rate = self.dropout if self.training else 0.0
        return functional.scaled_dot_product_attention(
            q,
            k,
            v,
            is_causal=self.kind == "causal",
            dropout_p=rate,
            enable_gqa=self.kv_heads != self.heads,
        )


class Gated(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.gate, self.up = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x):
        return self.down(functional.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    def __init__(self, width, heads, norm, feed_forward, **attention):
        super().__init__()
        self.norm_1, self.norm_2 = norm(width), norm(width)
        self.attention = Attention(width, heads, **attention)
        self.feed_forward = feed_forward(width)

    def forward(self, x):
        x = x + self.attention(self.norm_1(x))
        return x + self.feed_forward(self.norm_2(x))


def mlp_of(width):
    return nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


def gated_of(width):
    return Gated(width, 8 * width // 3 // 64 * 64)


class Decoder(nn.Module):
    def __init__(
        self,
        width=384,
        heads=6,
        depth=4,
        vocabulary=10_000,
        norm=nn.LayerNorm,
        feed_forward=mlp_of,
        *,
        tied=False,
        recomputed=None,
        **attention,
    ):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(1024, width)
        self.dropout = nn.Dropout(0.1)
        self.blocks = nn.ModuleList(
            Block(width, heads, norm, feed_forward, **attention) for _ in range(depth)
        )
        self.norm, self.head = norm(width), nn.Linear(width, vocabulary, bias=False)
        self.recomputed = recomputed
        if tied:
            self.head.weight = self.tokens.weight

    def forward(self, tokens):
        at = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.dropout(self.tokens(tokens) + self.positions(at))
        if self.recomputed == "in segments":
            x = checkpoint_sequential(nn.Sequential(*self.blocks), 2, x, use_reentrant=False)
        else:
            for block in self.blocks:
                x = self.through(block, x)
        return self.head(self.norm(x))

    def through(self, block, x):
        if self.recomputed is None:
            return block(x)
        return checkpoint(block, x, use_reentrant=self.recomputed == "reentrant")


def llama(**options):
    return Decoder(norm=nn.RMSNorm, feed_forward=gated_of, **options)


def text(batch=4, length=256, vocabulary=10_000):
    tokens = torch.randint(vocabulary, (batch, length), **CUDA)
    return tokens, tokens


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True)


def train(
    make,
    data=numbers,
    optimizer=torch.optim.AdamW,
    *,
    autocast=None,
    scaled=False,
    clip=None,
    micro_batches=1,
    steps=2,
    set_to_none=True,
    frozen=None,
    after_step=None,
):
    """A training loop as people write it."""
    model = make().cuda()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(frozen is None or not frozen(name))
    optimizer = optimizer([p for p in model.parameters() if p.requires_grad])
    scaler = torch.amp.GradScaler("cuda", enabled=scaled)
    for _ in range(steps):
        for _ in range(micro_batches):
            x, target = data()
            with torch.autocast("cuda", dtype=autocast) if autocast else nullcontext():
                y = model(x)
                loss = functional.cross_entropy(y.flatten(0, -2), target.flatten())
            scaler.scale(loss / micro_batches).backward()
        if clip is not None:
            scaler.unscale_(optimizer)
            clip(model.parameters())
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=set_to_none)
        if after_step is not None:
            after_step(model)


def infer(make, data, context=torch.no_grad, calls=3):
    model = make().cuda().eval()
    with context():
        for _ in range(calls):
            model(data()[0])


class PatchModel(nn.Module):
    """A vision transformer whose patches are cut by unfold."""

    def __init__(self, width=384, depth=4):
        super().__init__()
        self.patches = nn.Linear(3 * 16 * 16, width)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, 197, width))
        layer = nn.TransformerEncoderLayer(
            width, 6, 4 * width, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = nn.Linear(width, 500)

    def forward(self, images):
        patches = images.unfold(2, 16, 16).unfold(3, 16, 16).permute(0, 2, 3, 1, 4, 5)
        x = self.patches(patches.reshape(images.shape[0], 196, -1))
        x = torch.cat([self.token.expand(images.shape[0], -1, -1), x], 1) + self.positions
        return self.head(self.encoder(x)[:, 0])


def images(batch=16):
    return torch.randn(batch, 3, 224, 224, **CUDA), torch.randint(500, (batch,), **CUDA)


class Adapter(nn.Module):
    """A layer that is kept, and a product of two small ones that learns."""

    def __init__(self, layer, rank=8):
        super().__init__()
        self.layer = layer
        self.down = nn.Linear(layer.in_features, rank, bias=False)
        self.up = nn.Linear(rank, layer.out_features, bias=False)

    def forward(self, x):
        return self.layer(x) + self.up(self.down(x)) * 2.0


def with_adapters(make):
    model = make()
    for block in model.blocks:
        block.attention.q = Adapter(block.attention.q)
        block.attention.v = Adapter(block.attention.v)
    return model


def is_kept(name):
    return ".up." not in name and ".down." not in name


def contrastive():
    """Two towers, and a loss over all pairs of a batch."""
    left, right = (perceptron(classes=256).cuda() for _ in range(2))
    scale = nn.Parameter(torch.tensor(2.0, **CUDA))
    parameters = [*left.parameters(), *right.parameters(), scale]
    optimizer = torch.optim.AdamW(parameters)
    for _ in range(2):
        a, b = (functional.normalize(tower(numbers(512)[0]), dim=-1) for tower in (left, right))
        pairs = scale.exp() * a @ b.T
        target = torch.arange(512, **CUDA)
        sides = functional.cross_entropy(pairs, target), functional.cross_entropy(pairs.T, target)
        (sum(sides) / 2).backward()
        optimizer.step()
        optimizer.zero_grad()


def distillation():
    teacher, student = perceptron(2048).cuda().eval(), perceptron(512).cuda()
    optimizer = torch.optim.Adam(student.parameters())
    for _ in range(2):
        x, _ = numbers()
        with torch.no_grad():
            wanted = teacher(x).softmax(-1)
        functional.kl_div(student(x).log_softmax(-1), wanted, reduction="batchmean").backward()
        optimizer.step()
        optimizer.zero_grad()


def moving_average():
    average = []

    def follow(model):
        if not average:
            average.append(copy.deepcopy(model))
        with torch.no_grad():
            for mean, now in zip(average[0].parameters(), model.parameters(), strict=True):
                mean.lerp_(now, 0.01)

    train(perceptron, after_step=follow)


def stored_losses():
    model, losses = perceptron().cuda(), []
    for _ in range(3):
        x, target = numbers()
        loss = functional.cross_entropy(model(x), target)
        loss.backward()
        losses.append(loss)  # and its graph
        model.zero_grad()


def interrupted():
    """An exception midway; the next step starts from what is left."""
    model = perceptron().cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    for step in range(3):
        try:
            x, target = numbers()
            y = model(x)
            if step == 1:
                raise ValueError("a bad batch")
            functional.cross_entropy(y, target).backward()
            optimizer.step()
        except ValueError:
            pass
        optimizer.zero_grad()


def generate(half=True):
    """A cache of fixed size, written in place; one token a call."""
    layer = Attention(512, 8).cuda().to(BF16 if half else torch.float32).eval()
    like = layer.q.weight
    keys, values = (torch.zeros(2, 8, 300, 64, dtype=like.dtype, **CUDA) for _ in range(2))
    with torch.inference_mode():
        for at in range(20):
            x = torch.randn(2, 1, 512, dtype=like.dtype, **CUDA)
            q, k, v = (
                part(x).view(2, 1, 8, 64).transpose(1, 2) for part in (layer.q, layer.k, layer.v)
            )
            keys[:, :, at : at + 1], values[:, :, at : at + 1] = k, v
            mixed = functional.scaled_dot_product_attention(
                q, keys[:, :, : at + 1], values[:, :, : at + 1]
            )
            layer.out(mixed.transpose(1, 2).reshape(2, 1, 512))


def gradient_penalty():
    critic = nn.Sequential(nn.Linear(784, 512), nn.LeakyReLU(0.2), nn.Linear(512, 1)).cuda()
    optimizer = torch.optim.Adam(critic.parameters(), betas=(0.5, 0.9))
    for _ in range(2):
        x = torch.randn(256, 784, requires_grad=True, **CUDA)
        (grad,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
        penalty = (grad.norm(2, dim=1) - 1).square().mean()
        (critic(x).mean() + 10 * penalty).backward()
        optimizer.step()
        optimizer.zero_grad()


def offloaded():
    """What backward will need waits on the CPU."""
    with torch.autograd.graph.save_on_cpu():
        train(perceptron, steps=1)


def step_in_backward():
    """Each parameter is stepped as soon as its gradient is there, which is then dropped."""
    model = perceptron().cuda()
    optimizers = {p: torch.optim.AdamW([p], foreach=False) for p in model.parameters()}

    def step(parameter):
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(step)
    for _ in range(2):
        x, target = numbers()
        functional.cross_entropy(model(x), target).backward()


def recurrent_by_hand():
    cell, head = nn.GRUCell(128, 256).cuda(), nn.Linear(256, 50).cuda()
    hidden = torch.zeros(64, 256, **CUDA)
    for x in torch.randn(12, 64, 128, **CUDA):
        hidden = cell(x, hidden)
    functional.cross_entropy(head(hidden), torch.randint(50, (64,), **CUDA)).backward()


def recommender():
    tables = nn.ModuleList(nn.Embedding(size, 64) for size in (1000, 50_000, 200)).cuda()
    top = nn.Sequential(nn.Linear(192, 256), nn.ReLU(), nn.Linear(256, 1)).cuda()
    optimizer = torch.optim.Adagrad([*tables.parameters(), *top.parameters()])
    for _ in range(2):
        parts = [table(torch.zeros(4096, dtype=torch.int64, **CUDA)) for table in tables]
        clicked = torch.zeros(4096, **CUDA)
        scores = top(torch.cat(parts, 1)).squeeze(1)
        functional.binary_cross_entropy_with_logits(scores, clicked).backward()
        optimizer.step()
        optimizer.zero_grad()


def graph_network():
    """Messages along edges, added up at their targets."""
    nodes, edges = 3000, 20_000
    first, second = nn.Linear(128, 256).cuda(), nn.Linear(256, 40).cuda()
    source, target = torch.zeros(2, edges, dtype=torch.int64, **CUDA)
    x = torch.randn(nodes, 128, **CUDA)
    for layer in (first, second):
        messages = layer(x)[source]
        x = torch.zeros(nodes, messages.shape[1], **CUDA).index_add(0, target, messages).relu()
    functional.cross_entropy(x, torch.zeros(nodes, dtype=torch.int64, **CUDA)).backward()


def mixture_of_experts():
    gate, experts = nn.Linear(256, 8).cuda(), nn.ModuleList(mlp_of(256) for _ in range(8)).cuda()
    x = torch.randn(2000, 256, requires_grad=True, **CUDA)
    weights, chosen = gate(x).softmax(-1).topk(2)
    result = torch.zeros_like(x)
    for at, expert in enumerate(experts):
        rows = torch.arange(250, **CUDA) + 250 * at  # as many for each, as with a capacity
        result = result.index_add(0, rows, expert(x[rows]) * weights[rows, :1])
    (result.mean() + chosen.float().mean()).backward()


def loss_in_chunks():
    """Logits of a large vocabulary are never all there."""
    head = nn.Linear(512, 50_000, bias=False).cuda()
    hidden = torch.randn(2048, 512, requires_grad=True, **CUDA)
    target = torch.randint(50_000, (2048,), **CUDA)

    def part(rows, wanted):
        return functional.cross_entropy(head(rows).float(), wanted, reduction="sum")

    losses = [
        checkpoint(part, rows, wanted, use_reentrant=False)
        for rows, wanted in zip(hidden.chunk(8), target.chunk(8), strict=True)
    ]
    (sum(losses) / 2048).backward()


def mapped_over_samples():
    """Gradients of every sample, by torch.func."""
    model = perceptron(256).cuda().eval()
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss_of(given, x, target):
        y = torch.func.functional_call(model, given, (x.unsqueeze(0),))
        return functional.cross_entropy(y, target.unsqueeze(0))

    x, target = numbers(32)
    each = torch.func.vmap(torch.func.grad(loss_of), in_dims=(None, 0, 0))(parameters, x, target)
    assert len(each) == len(parameters)


def with_backend(backend, dtype=HALF, *, size=64, causal=True, dropout=0.0):
    def run():
        q, k, v = (
            torch.randn(2, 6, 384, size, dtype=dtype, requires_grad=True, **CUDA) for _ in range(3)
        )
        for _ in range(2):
            with sdpa_kernel(backend):
                y = functional.scaled_dot_product_attention(
                    q, k, v, is_causal=causal, dropout_p=dropout
                )
            y.sum().backward()

    return run


def losses():
    x = torch.randn(4000, 300, requires_grad=True, **CUDA)
    y = torch.randn(4000, 300, **CUDA)
    target = torch.zeros(4000, dtype=torch.int64, **CUDA)
    for loss in (
        nn.MSELoss(),
        nn.L1Loss(),
        nn.SmoothL1Loss(),
        nn.HuberLoss(),
        nn.PoissonNLLLoss(),
        nn.KLDivLoss(reduction="batchmean"),
        nn.SoftMarginLoss(),
        nn.CosineSimilarity(),
        nn.BCEWithLogitsLoss(),
    ):
        loss(x, y).mean().backward()
    for loss in (
        nn.CrossEntropyLoss(label_smoothing=0.1),
        nn.CrossEntropyLoss(weight=torch.ones(300, **CUDA)),
        nn.CrossEntropyLoss(reduction="none"),
        nn.MultiMarginLoss(),
    ):
        loss(x, target).mean().backward()


def norms():
    x = torch.randn(16, 64, 48, 48, requires_grad=True, **CUDA)
    for norm in (
        nn.BatchNorm2d(64),
        nn.BatchNorm2d(64).eval(),
        nn.GroupNorm(8, 64),
        nn.InstanceNorm2d(64, affine=True),
        nn.LayerNorm([64, 48, 48]),
        nn.RMSNorm([48, 48]),
        nn.LocalResponseNorm(5),
    ):
        norm.cuda()(x).square().mean().backward()


def pictures():
    x = torch.randn(8, 32, 64, 64, requires_grad=True, **CUDA)
    for change in (
        nn.MaxPool2d(2),
        nn.AvgPool2d(2),
        nn.AdaptiveAvgPool2d(5),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Upsample(scale_factor=2),
        nn.PixelShuffle(2),
        nn.ReflectionPad2d(2),
        nn.ZeroPad2d(1),
        nn.Unfold(4, stride=4),
        nn.Dropout2d(0.2),
        nn.Flatten(),
    ):
        change(x).square().mean().backward()


def clip_norm(parameters):
    nn.utils.clip_grad_norm_(parameters, 1.0)


def clip_value(parameters):
    nn.utils.clip_grad_value_(parameters, 0.5)


def optimizers(**forms):
    return {
        f"optimizer {name}": partial(train, perceptron, optimizer=make)
        for name, make in forms.items()
    }


SCRIPTS = {
    **optimizers(
        sgd=partial(torch.optim.SGD, lr=0.1),
        sgd_fused=partial(torch.optim.SGD, lr=0.1, momentum=0.9, fused=True),
        sgd_nesterov_loop=partial(
            torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True, foreach=False
        ),
        adam_loop=partial(torch.optim.Adam, foreach=False),
        adam_capturable=partial(torch.optim.Adam, capturable=True),
        adamw_fused=partial(torch.optim.AdamW, fused=True),
        adamw_amsgrad=partial(torch.optim.AdamW, amsgrad=True),
        adamax=torch.optim.Adamax,
        adadelta=torch.optim.Adadelta,
        adagrad=torch.optim.Adagrad,
        adafactor=torch.optim.Adafactor,
        asgd=torch.optim.ASGD,
        nadam=torch.optim.NAdam,
        radam=torch.optim.RAdam,
        rmsprop=partial(torch.optim.RMSprop, momentum=0.9, centered=True),
        rprop=torch.optim.Rprop,
    ),
    "fp16 with scaler and clipping": partial(
        train, perceptron, autocast=HALF, scaled=True, clip=clip_norm
    ),
    "bf16 with values clipped": partial(train, perceptron, autocast=BF16, clip=clip_value),
    "gradients accumulated": partial(train, perceptron, micro_batches=4, clip=clip_norm),
    "gradients set to zero": partial(train, perceptron, set_to_none=False),
    "pure bf16": partial(train, lambda: Decoder().to(BF16), text),
    "decoder fp32": partial(train, Decoder, text),
    "decoder bf16": partial(train, Decoder, text, autocast=BF16),
    "decoder fp16 scaled": partial(
        train, Decoder, text, autocast=HALF, scaled=True, clip=clip_norm
    ),
    "decoder with dropped attention": partial(
        train, partial(Decoder, dropout=0.1), text, autocast=BF16
    ),
    "decoder attention by hand": partial(
        train, partial(Decoder, kind="by hand"), text, autocast=BF16
    ),
    "decoder attention with a bias": partial(train, partial(Decoder, kind="bias"), text),
    "decoder attention with a bias, bf16": partial(
        train, partial(Decoder, kind="bias"), text, autocast=BF16
    ),
    "decoder of odd heads": partial(
        train, partial(Decoder, width=360, heads=5), text, autocast=BF16
    ),
    "decoder with tied weights": partial(train, partial(Decoder, tied=True), text, autocast=BF16),
    "decoder checkpointed": partial(
        train, partial(Decoder, recomputed="as now"), text, autocast=BF16
    ),
    "decoder checkpointed, reentrant": partial(
        train, partial(Decoder, recomputed="reentrant"), text, autocast=BF16
    ),
    "decoder checkpointed in segments": partial(
        train, partial(Decoder, recomputed="in segments"), text, autocast=BF16
    ),
    "llama bf16": partial(train, llama, text, autocast=BF16),
    "llama with grouped queries": partial(train, partial(llama, kv_heads=2), text, autocast=BF16),
    "llama accumulated, fused": partial(
        train, llama, text, partial(torch.optim.AdamW, fused=True), autocast=BF16, micro_batches=2
    ),
    "llama large vocabulary": partial(
        train, partial(llama, vocabulary=60_000), partial(text, vocabulary=60_000), autocast=BF16
    ),
    "llama with adapters": partial(
        train, lambda: with_adapters(llama), text, autocast=BF16, frozen=is_kept
    ),
    "half of a decoder frozen": partial(
        train,
        Decoder,
        text,
        autocast=BF16,
        frozen=lambda name: "blocks.0" in name or "tokens" in name,
    ),
    "vision transformer": partial(train, PatchModel, images, sgd, autocast=BF16),
    "vision transformer fp32": partial(train, PatchModel, images),
    "vision transformer, inference": partial(infer, PatchModel, images),
    "decoder, inference": partial(infer, lambda: Decoder().to(BF16), text),
    "decoder, inference mode": partial(infer, lambda: llama().to(BF16), text, torch.inference_mode),
    "decoder, inference with gradients on": partial(infer, Decoder, text, nullcontext),
    "perceptron under autocast, inference": partial(
        infer, perceptron, numbers, partial(torch.autocast, "cuda", dtype=BF16)
    ),
    "generation with a cache": generate,
    "generation with a cache, fp32": partial(generate, half=False),
    "flash attention": with_backend(SDPBackend.FLASH_ATTENTION),
    "flash attention with dropout, size 96": with_backend(
        SDPBackend.FLASH_ATTENTION, BF16, size=96, dropout=0.1
    ),
    "efficient attention": with_backend(SDPBackend.EFFICIENT_ATTENTION, torch.float32),
    "efficient attention with dropout": with_backend(
        SDPBackend.EFFICIENT_ATTENTION, causal=False, dropout=0.1
    ),
    "math attention": with_backend(SDPBackend.MATH, torch.float32),
    "math attention, fp16": with_backend(SDPBackend.MATH, causal=False),
    "contrastive": contrastive,
    "distillation": distillation,
    "moving average of weights": moving_average,
    "losses stored": stored_losses,
    "an exception midway": interrupted,
    "gradient penalty": gradient_penalty,
    "saved tensors on the CPU": offloaded,
    "optimizer step in backward": step_in_backward,
    "recurrent cell by hand": recurrent_by_hand,
    "recommender": recommender,
    "graph network": graph_network,
    "mixture of experts": mixture_of_experts,
    "loss in chunks": loss_in_chunks,
    "gradients of every sample": mapped_over_samples,
    "losses": losses,
    "norms": norms,
    "pictures": pictures,
    **DOUBLE_BACKWARD_SCRIPTS,
    **SMALL_SCRIPTS,
}
