"""Vision transformers that were trained on one card (cases B19, B24 and B39).

The layers are torchvision's and timm's: a convolution makes the patches, so a workspace of cuDNN
may come on top. Weights that were downloaded have no values here.
"""

from functools import partial

import torch
from torch import nn
from torch.nn.functional import cross_entropy, linear, scaled_dot_product_attention

from benchmarks.published_case import Case
from benchmarks.published_early import EarlyAdam, FirstFlash

BF16 = torch.bfloat16
A100 = "NVIDIA A100-SXM4-80GB"


class Attention(nn.MultiheadAttention):
    """Its own forward without weights, so that `attend` can be that of another version."""

    def __init__(self, width, heads, attend):
        super().__init__(width, heads, batch_first=True)
        self.attend = attend

    def forward(self, x):
        x = x.transpose(1, 0)
        length, batch, width = x.shape
        proj = linear(x, self.in_proj_weight, self.in_proj_bias)
        proj = proj.unflatten(-1, (3, width)).unsqueeze(0).transpose(0, -2).squeeze(-2).contiguous()
        shape = (batch, self.num_heads, length, self.head_dim)
        q, k, v = proj[0], proj[1], proj[2]
        q, k, v = (
            part.view(length, batch * self.num_heads, self.head_dim).transpose(0, 1).view(shape)
            for part in (q, k, v)
        )
        half = q.dtype in (torch.float16, BF16)
        output = (self.attend if half else scaled_dot_product_attention)(q, k, v)
        output = output.permute(2, 0, 1, 3).contiguous().view(batch * length, width)
        output = linear(output, self.out_proj.weight, self.out_proj.bias)
        return output.view(length, batch, width).transpose(1, 0)


class Block(nn.Module):
    """torchvision's EncoderBlock; its dropouts, of probability 0, are left out."""

    def __init__(self, width, heads, attend):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.self_attention = Attention(width, heads, attend)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, tokens):
        x = self.ln_1(tokens)
        x = self.self_attention(x)
        x = x + tokens
        y = self.ln_2(x)
        y = self.mlp(y)
        return x + y


class VisionTransformer(nn.Module):
    """torchvision's vit_l_16 with so many classes."""

    def __init__(
        self,
        classes=10,
        depth=24,
        width=1024,
        heads=16,
        patch=16,
        attend=scaled_dot_product_attention,
    ):
        super().__init__()
        self.width = width
        self.conv_proj = nn.Conv2d(3, width, patch, stride=patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        tokens = (224 // patch) ** 2 + 1
        self.pos_embedding = nn.Parameter(torch.empty(1, tokens, width))
        self.layers = nn.Sequential(*(Block(width, heads, attend) for _ in range(depth)))
        self.ln = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, classes)

    def tokens(self, images):
        patches = self.conv_proj(images)
        patches = patches.reshape(len(images), self.width, -1).permute(0, 2, 1)
        return torch.cat([self.class_token.expand(len(images), -1, -1), patches], dim=1)

    def forward(self, images):
        x = self.tokens(images)
        x = x + self.pos_embedding
        x = self.ln(self.layers(x))
        return self.head(x[:, 0])


def on_card(classes=10, dtype=torch.float32, **options):
    """Fabric converts a model before it is moved."""
    with torch.device("meta"):
        model = VisionTransformer(classes, **options).to(dtype)
    return model.to_empty(device="cuda")


def fine_tuning(model, optimizer, batch, *, scaler=None, batches=3):
    """The loop of the repository's first four scripts: gradients are reset after the forward."""
    for _ in range(batches):
        features = torch.empty(batch, 3, 224, 224).to("cuda")
        targets = torch.zeros(batch, dtype=torch.int64).to("cuda")
        features = features.to(model.head.weight.dtype)
        with torch.autocast("cuda", torch.float16, enabled=scaler is not None):
            logits = model(features)
        loss = cross_entropy(logits.float(), targets) if scaler else cross_entropy(logits, targets)
        optimizer.zero_grad()
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        predict(logits)
    return torch.cuda.max_memory_reserved()


def predict(logits):
    with torch.no_grad():
        return torch.argmax(logits, 1)


def trained(batch, *, dtype=torch.float32, mixed=False):
    model = on_card(dtype=dtype, attend=FirstFlash.apply)
    optimizer = EarlyAdam(model.parameters(), lr=5e-5)
    scaler = torch.amp.GradScaler("cuda") if mixed else None
    return fine_tuning(model, optimizer, batch, scaler=scaler)


def accumulated(make_optimizer, micro_batch=4, accumulation=4):
    """The scripts with accumulation: a step comes after the first batch, then after each fourth."""
    model = on_card(dtype=BF16, attend=FirstFlash.apply)
    optimizer = make_optimizer(model.parameters())
    for at in range(2 * accumulation + 1):
        features = torch.empty(micro_batch, 3, 224, 224).to("cuda")
        targets = torch.zeros(micro_batch, dtype=torch.int64).to("cuda")
        features = features.to(BF16)
        logits = model(features)
        loss = cross_entropy(logits, targets) / accumulation
        loss.backward()
        if at % accumulation == 0:
            optimizer.step()
            optimizer.zero_grad()
        predict(logits)
    return torch.cuda.max_memory_reserved()


def made(*, in_half):
    """The model alone: in half precision at once, or in fp32 and converted on the card."""
    if in_half:
        torch.set_default_dtype(torch.float16)
        try:
            with torch.device("cuda"):
                model = VisionTransformer(1000)
        finally:
            torch.set_default_dtype(torch.float32)
    else:
        model = on_card(1000).to(torch.float16)
    assert model.head.weight.dtype is torch.float16
    return torch.cuda.max_memory_reserved()


LADDER = {
    "fp32": partial(trained, 64),
    "16-mixed": partial(trained, 64, mixed=True),
    "bf16-true": partial(trained, 64, dtype=BF16),
    "bf16, batch 16": partial(trained, 16, dtype=BF16),
    "bf16, micro batch 4 x 4": partial(accumulated, partial(EarlyAdam, lr=5e-5)),
    "SGD lr 0.01": partial(accumulated, partial(torch.optim.SGD, lr=0.01)),
    "model made on the GPU fp32 / half: 1.24": partial(made, in_half=False),
    "half": partial(made, in_half=True),
}


def tutorial(*, in_backward):
    """B39: three steps with an image of random values; the peak that the snapshot shows."""
    model = on_card(1000)
    make = partial(torch.optim.Adam, lr=1e-3, foreach=True)
    optimizer = None if in_backward else make(model.parameters())
    if in_backward:
        step_in_backward(model)
    for _ in range(3):
        fake_image = torch.rand(1, 3, 224, 224).cuda()
        loss = model(fake_image)
        loss.sum().backward()
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad()
    return torch.cuda.max_memory_allocated()


def step_in_backward(model):
    optimizers = {weight: torch.optim.Adam([weight]) for weight in model.parameters()}

    def step(weight):
        optimizers[weight].step()
        optimizers[weight].zero_grad()

    for weight in model.parameters():
        weight.register_post_accumulate_grad_hook(step)


def parameters_alone():
    model = on_card(1000)
    assert model.head.out_features == 1000
    return torch.cuda.max_memory_allocated()


def low_bit_baseline():
    """B24: timm's ViT-H/14 with fused AdamW; it was compiled, and is simulated as written.

    Its card, an RTX 4070 Ti SUPER, is of the same generation as the one that is simulated.
    """
    model = on_card(45, depth=32, width=1280, heads=16, patch=14)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0, fused=True)
    for _ in range(3):
        image, label = torch.rand(8, 3, 224, 224), torch.zeros(8, dtype=torch.int64)
        with torch.autocast("cuda", dtype=BF16):
            loss = cross_entropy(model(image.cuda()), label.cuda())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return torch.cuda.max_memory_allocated()


CASES = [
    Case("B19", A100, LADDER),
    Case("B24", "NVIDIA GeForce RTX 4090", {"AdamW fused": low_bit_baseline}),
    Case(
        "B39",
        A100,
        {
            "Adam foreach": partial(tutorial, in_backward=False),
            "optimizer in backward": partial(tutorial, in_backward=True),
            "parameters": parameters_alone,
        },
    ),
]
