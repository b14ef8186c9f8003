"""Small pieces of work in plain torch, run both here and by the CUDA build that gave the peaks."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

Optimizers = Callable[[nn.Module], torch.optim.Optimizer]


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(1000, 3000),
        nn.GELU(),
        nn.LayerNorm(3000),
        nn.Dropout(0.1),
        nn.Linear(3000, 700),
    )


class Block(nn.Module):
    def __init__(self, width: int, norm: type[nn.Module]) -> None:
        super().__init__()
        self.norm_1 = norm(width)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.norm_2 = norm(width)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.query_key_value(self.norm_1(x)).chunk(3, -1)
        q, k, v = (t.view(batch, length, 8, -1).transpose(1, 2) for t in parts)
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(functional.gelu(self.up(self.norm_2(x))))


class Decoder(nn.Module):
    def __init__(self, norm: type[nn.Module] = nn.LayerNorm, checkpointed: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(8000, 512)
        self.dropout = nn.Dropout(0.1)
        self.blocks = nn.ModuleList(Block(512, norm) for _ in range(3))
        self.norm = norm(512)
        self.head = nn.Linear(512, 8000, bias=False)
        self.checkpointed = checkpointed

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.dropout(self.embedding(tokens))
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.checkpointed else block(x)
        return self.head(self.norm(x))


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters())


def train_mlp(
    make: Optimizers = adamw,
    dtype: torch.dtype | None = None,
    *,
    scaled: bool = False,
    clipped: bool = False,
) -> None:
    model = mlp().cuda()
    optimizer = make(model)
    scaler = torch.amp.GradScaler("cuda", enabled=scaled)
    for _ in range(2):
        with torch.autocast("cuda", dtype=dtype, enabled=dtype is not None):
            loss = model(torch.randn(777, 1000, device="cuda")).square().mean()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        if clipped:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()


def train_decoder(model: nn.Module, dtype: torch.dtype | None = None) -> None:
    model = model.cuda()
    optimizer = adamw(model)
    for _ in range(2):
        tokens = torch.zeros(2, 512, dtype=torch.long, device="cuda")
        with torch.autocast("cuda", dtype=dtype, enabled=dtype is not None):
            logits = model(tokens)
            loss = functional.cross_entropy(logits.flatten(0, 1), tokens.flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def infer() -> None:
    model = Decoder().cuda().bfloat16().eval()
    with torch.inference_mode():
        for _ in range(2):
            model(torch.zeros(4, 512, dtype=torch.long, device="cuda"))


def build_on_device() -> None:
    with torch.device("cuda"):
        model = mlp()
        data = torch.tensor([[1.0] * 1000] * 50)
    for _ in range(2):
        model(data).square().mean().backward()


SCRIPTS: dict[str, Callable[[], None]] = {
    "mlp with AdamW": train_mlp,
    "mlp with SGD and momentum": lambda: train_mlp(
        lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9)
    ),
    "mlp with fused Adam": lambda: train_mlp(
        lambda m: torch.optim.Adam(m.parameters(), fused=True)
    ),
    "mlp with Adam in a loop, amsgrad": lambda: train_mlp(
        lambda m: torch.optim.Adam(m.parameters(), foreach=False, amsgrad=True)
    ),
    "mlp in fp16 with scaler and clipping": lambda: train_mlp(
        dtype=torch.float16, scaled=True, clipped=True
    ),
    "mlp built on the device": build_on_device,
    "decoder in fp32": lambda: train_decoder(Decoder()),
    "decoder in bf16": lambda: train_decoder(Decoder(), torch.bfloat16),
    "decoder with RMSNorm": lambda: train_decoder(Decoder(nn.RMSNorm), torch.bfloat16),
    "decoder with checkpointing": lambda: train_decoder(Decoder(checkpointed=True), torch.bfloat16),
    "decoder in inference mode": infer,
}
