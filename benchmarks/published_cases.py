"""Work whose memory somebody measured on a card and published, rebuilt from its description.

Each function does the work on `cuda` and returns what was published, in bytes, as its authors read
it: from torch.cuda. `data/published.json` has the published figures, under the same names.
"""

from functools import partial

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from benchmarks import (
    published_adapters,
    published_formulas,
    published_llama,
    published_pipeline,
    published_ranks,
    published_regnet,
    published_reversible,
    published_slopes,
    published_tensors,
    published_vision,
)
from benchmarks.published_case import Case
from benchmarks.published_generation import GENERATIONS

CUDA = {"device": "cuda"}
BF16 = torch.bfloat16


def peak_of_repeats(step, times=3):
    """As the benchmarks of Liger-Kernel: the peak of a call, when those before have left theirs."""
    for _ in range(times):
        torch.cuda.reset_peak_memory_stats()
        step()
        peak = torch.cuda.max_memory_allocated()
    return peak


def three_adams():
    """A03: the optimizers before keep their networks, gradients and states alive."""
    x = torch.randn(64, 200, **CUDA)
    target = torch.zeros(64, dtype=torch.int64, **CUDA)
    kept, peaks = [], []
    for form in ({"foreach": False}, {"foreach": True}, {"fused": True}):
        net = nn.Sequential(*[part for _ in range(20) for part in (nn.Linear(200, 200), nn.ReLU())])
        optimizer = torch.optim.Adam(net.cuda().parameters(), lr=0.01, **form)
        kept.append(optimizer)
        torch.cuda.reset_peak_memory_stats()
        for _ in range(5):
            optimizer.zero_grad(set_to_none=True)
            prediction = net(x)
            loss = cross_entropy(prediction, target)
            loss.backward()
            optimizer.step()
        peaks.append(torch.cuda.max_memory_allocated())
    return peaks


def loss_of_vocabulary(classes, tokens=8 * 2048):
    logits = torch.randn(tokens, classes, requires_grad=True, **CUDA)
    target = torch.randint(classes, (tokens, 1), **CUDA).squeeze(1)
    loss = nn.CrossEntropyLoss()
    return peak_of_repeats(lambda: loss(logits, target).backward())


def swiglu(length):
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaMLP

    config = LlamaConfig(hidden_size=4096, intermediate_size=11008, hidden_act="silu")
    x = torch.randn(4, length, 4096, dtype=BF16, requires_grad=True, **CUDA)
    mlp = LlamaMLP(config).to("cuda").to(BF16)

    def full():
        y = mlp(x)
        y.backward(torch.randn_like(y), retain_graph=True)

    return peak_of_repeats(full)


def divergence(tokens, classes):
    kl = nn.KLDivLoss(reduction="batchmean", log_target=True)
    log_q = torch.randn(tokens, classes, requires_grad=True, **CUDA).log_softmax(dim=-1)
    target = torch.randn(tokens, classes, **CUDA).log_softmax(dim=-1)

    def jsd(log_p, log_q):
        m = 0.5 * (torch.exp(log_p) + torch.exp(log_q))
        log_m = torch.log(m)
        return 0.5 * (kl(log_m, log_p) + kl(log_m, log_q))

    def full():
        y = jsd(log_q, target)
        y.backward(retain_graph=True)

    return peak_of_repeats(full)


def rms_norm(width):
    layer = nn.RMSNorm(width, eps=1e-6).to("cuda").to(BF16)
    x = torch.randn(4096, 1, width, dtype=BF16, requires_grad=True, **CUDA)

    def full():
        y = layer(x)
        y.sum().backward()

    return peak_of_repeats(full)


def group_norm(channels):
    both = [nn.GroupNorm(channels // 4, channels, eps=1e-6).to("cuda") for _ in range(2)]
    x = torch.randn(128, channels, 512, **CUDA)
    dy = torch.randn_like(x)
    x.requires_grad_(True)

    def full():
        y = both[1](x)
        y.backward(dy, retain_graph=True)

    return peak_of_repeats(full)


class AddAndNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, hidden, residual):
        given = hidden.dtype
        hidden = hidden.to(torch.float32)
        residual = residual.to(torch.float32)
        hidden = hidden + residual
        residual = hidden
        variance = hidden.pow(2).mean(-1, keepdim=True)
        hidden = hidden * torch.rsqrt(variance + 1e-6)
        return self.weight * hidden.to(given), residual.to(given)


def add_and_norm(width):
    """A18: the two layers that it is compared with are there as well, of three weights."""
    others = [nn.Parameter(torch.ones(width)).to("cuda") for _ in range(3)]
    layer = AddAndNorm(width).to("cuda")
    x, residual = (torch.randn(2048, width, **CUDA) for _ in range(2))
    gradients = torch.randn_like(x), torch.randn_like(residual)
    x.requires_grad_(True)
    residual.requires_grad_(True)

    def full():
        torch.autograd.backward(layer(x, residual), gradients)

    peak = peak_of_repeats(full)
    del others
    return peak


def rotary(width, length):
    """A19: Llama4TextRotaryEmbedding and apply_rotary_emb, as transformers had them in 2025."""
    head = width // 32
    q = torch.randn((1, length, 32, head), requires_grad=True, dtype=BF16, **CUDA)
    k = torch.randn((1, length, 8, head), requires_grad=True, dtype=BF16, **CUDA)
    dq, dk = torch.randn_like(q), torch.randn_like(k)
    positions = torch.arange(length, dtype=torch.long, **CUDA).unsqueeze(0)
    inverse = 1.0 / (10_000 ** (torch.arange(0, head, 2, dtype=torch.float, **CUDA) / head))
    with torch.no_grad():
        angles = (inverse[None, :, None].expand(1, -1, 1) @ positions[:, None, :].float()).mT
        frequencies = torch.polar(torch.ones_like(angles), angles) * 1.0
        del angles

    def turned():
        q_pairs = torch.view_as_complex(q.float().reshape(*q.shape[:-1], -1, 2))
        k_pairs = torch.view_as_complex(k.float().reshape(*k.shape[:-1], -1, 2))
        q_out = torch.view_as_real(q_pairs * frequencies[:, :, None, :]).flatten(3)
        k_out = torch.view_as_real(k_pairs * frequencies[:, :, None, :]).flatten(3)
        return q_out.type_as(q), k_out.type_as(k)

    def full():
        results = turned()
        torch.autograd.grad(results, (q, k), (dq, dk), allow_unused=True, retain_graph=True)

    return peak_of_repeats(full)


def projection_and_loss(tokens, classes, width):
    """A20: the peak less what was allocated before; no product had been run."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.max_memory_allocated()
    features = torch.randn(tokens, width, requires_grad=True, **CUDA)
    target = torch.randint(0, classes, (tokens,), **CUDA)
    model = nn.Linear(width, classes, bias=False).cuda()
    cross_entropy(model(features), target).mean().backward()
    return torch.cuda.max_memory_allocated() - before


def projection_after_another(tokens, classes, width):
    """The rows of A20 after the first: the workspaces of both threads are in what was before."""
    a = torch.ones(8, 8, requires_grad=True, **CUDA)
    (a @ a).sum().backward()
    del a
    return projection_and_loss(tokens, classes, width)


A100, H100, B200 = "NVIDIA A100-SXM4-80GB", "NVIDIA H100 80GB HBM3", "NVIDIA B200"
POWERS = [2**power for power in range(5, 18)]
FORMS = ("for-loop", "foreach", "fused")
ROWS = [
    *((tokens, 32768, 2048) for tokens in (1024, 2048, 4096, 8192, 16384)),
    *((8192, classes, 2048) for classes in (2048, 4096, 8192, 16384, 65536)),
    *((8192, 32768, width) for width in (1024, 4096, 8192)),
]
CASES = [
    Case("A03", H100, {form: lambda at=at: three_adams()[at] for at, form in enumerate(FORMS)}),
    Case("A05", A100, {f"V={v}": partial(loss_of_vocabulary, v) for v in POWERS[7:]}),
    Case("A08", A100, {f"T={t}": partial(swiglu, t) for t in POWERS[5:9]}),
    Case(
        "A12",
        H100,
        {
            **{f"V={v}": partial(divergence, 4 * 2048, v) for v in POWERS[7:]},
            **{f"BT={bt}": partial(divergence, bt, 128256) for bt in POWERS[5:9]},
        },
    ),
    Case("A16", H100, {f"H={h}": partial(rms_norm, h) for h in POWERS[5:10]}),
    Case(
        "A17",
        B200,
        {f"C={c}{end}": partial(group_norm, c) for end in (" forward", "") for c in POWERS[:7]},
    ),
    Case("A18", H100, {f"H={h}": partial(add_and_norm, h) for h in POWERS[5:11]}),
    Case(
        "A19",
        H100,
        {
            **{f"H={h}": partial(rotary, h, 2048) for h in (512, 2048, 8192)},
            **{f"T={t}": partial(rotary, 8192, t) for t in POWERS[5:10]},
        },
    ),
    Case(
        "A20",
        A100,
        {
            f"tokens={row[0]} V={row[1]} dim={row[2]}": partial(
                projection_and_loss if row == (8192, 2048, 2048) else projection_after_another, *row
            )
            for row in ROWS
        },
    ),
    Case("A23", A100, GENERATIONS),
]
for module in (
    published_tensors,
    published_slopes,
    published_vision,
    published_llama,
    published_adapters,
    published_pipeline,
    published_ranks,
    published_regnet,
    published_reversible,
    published_formulas,
):
    CASES += module.CASES
