"""Single operators whose CUDA kernels take memory for themselves.

Each case prepares its tensors and returns the call to record. This file, run with the name of
another, writes there what each allocates and frees on a CUDA build of torch.
"""

import json
import random
import sys

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it

CUDA = "cuda"


def zeros(*shape, dtype=torch.float32):
    return torch.zeros(shape, dtype=dtype, device=CUDA)


def indices(*shape):
    return zeros(*shape, dtype=torch.int64)


REDUCTIONS = {
    "sum": lambda x, dims: x.sum(dims),
    "sum of all": lambda x, _: x.sum(),
    "mean": lambda x, dims: x.mean(dims),
    "amax": lambda x, dims: x.amax(dims),
    "norm": lambda x, dims: torch.linalg.vector_norm(x, 2, dims),
    "max of all": lambda x, _: x.max(),
    "any": lambda x, dims: x.any(dims[0]),
    "var": lambda x, dims: x.var(dims),
    "max": lambda x, dims: x.max(dims[0]),
    "argmax": lambda x, dims: x.argmax(dims[0]),
}
DTYPES = (torch.float32, torch.bfloat16, torch.float64, torch.int32, torch.bool)
ONLY_FLOATING = ("mean", "norm", "var")


def reductions(count):
    """Random reductions of random tensors: permuted, expanded, of every kind of type."""
    chance = random.Random(7)
    while count:
        ndim = chance.randint(1, 4)
        total = 10 ** chance.uniform(2, 7)
        shape = tuple(max(1, int(total ** (chance.random() / ndim * 1.6))) for _ in range(ndim))
        dtype, name = chance.choice(DTYPES), chance.choice(list(REDUCTIONS))
        dims = sorted(chance.sample(range(ndim), chance.randint(1, ndim)))
        order = chance.sample(range(ndim), ndim) if chance.random() < 0.3 else range(ndim)
        is_expanded = chance.random() < 0.15
        elements = torch.Size(shape).numel()
        if not 2 <= elements <= 3e7 or (name in ONLY_FLOATING and not dtype.is_floating_point):
            continue
        count -= 1
        key = f"{name} {dtype} {shape} {dims} {list(order)} {is_expanded}"

        def case(name=name, shape=shape, dtype=dtype, dims=dims, order=order, wide=is_expanded):
            x = zeros(*shape, dtype=dtype).permute(*order)
            x = x[..., :1].expand(x.shape) if wide else x
            return lambda: REDUCTIONS[name](x, dims)

        yield key, case


def embedding(number, width, words, dtype=torch.float32):
    grad, index = zeros(number, width, dtype=dtype), indices(number)
    return lambda: torch.ops.aten.embedding_dense_backward(grad, index, words, -1, False)


def on(function, *shapes, dtype=torch.float32):
    tensors = [zeros(*shape, dtype=dtype) for shape in shapes]
    return lambda: function(*tensors)


def backward(function, *shapes, dtype=torch.float32):
    """The backward of a sum: its gradient is expanded."""
    tensors = [zeros(*shape, dtype=dtype).requires_grad_() for shape in shapes]
    result = function(*tensors)
    grad = zeros(dtype=result.dtype).expand(result.shape)
    return lambda: torch.autograd.grad(result, tensors, grad)


SIZES = (10, 1000, 4096, 10000, 65536, 1_000_000)
ROWS = ((16, 1000), (64, 1024), (64, 4096), (64, 50000), (4, 200_000), (128, 32000), (1000, 1000))
CASES = {
    **dict(reductions(120)),
    **{f"sort {n}": lambda n=n: on(torch.sort, (n,)) for n in SIZES},
    **{f"sort of integers {n}": lambda n=n: on(torch.sort, (n,), dtype=torch.int64) for n in SIZES},
    **{f"sort of rows {s}": lambda s=s: on(torch.sort, s) for s in ROWS},
    **{f"sort of half rows {s}": lambda s=s: on(torch.sort, s, dtype=torch.bfloat16) for s in ROWS},
    **{f"topk {s}": lambda s=s: on(lambda x: x.topk(50, -1), s) for s in ROWS},
    **{f"topk {n}": lambda n=n: on(lambda x: x.topk(5), (n,)) for n in SIZES},
    **{f"randperm {n}": lambda n=n: lambda: torch.randperm(n, device=CUDA) for n in SIZES},
    **{f"cumsum {n}": lambda n=n: on(lambda x: x.cumsum(0), (n,)) for n in SIZES},
    **{f"cumsum of rows {s}": lambda s=s: on(lambda x: x.cumsum(-1), s) for s in ROWS},
    **{
        f"embedding backward {number} {width} {words} {dtype}": (
            lambda number=number, width=width, words=words, dtype=dtype: embedding(
                number, width, words, dtype
            )
        )
        for number, width, words, dtype in (
            (100, 64, 1000, torch.float32),
            (3072, 64, 1000, torch.float32),
            (3073, 64, 1000, torch.float32),
            (8192, 512, 32000, torch.float32),
            (20000, 100, 50257, torch.float32),
            (8192, 768, 50257, torch.bfloat16),
            (5000, 768, 50257, torch.float16),
            (1_000_000, 64, 1000, torch.float32),
        )
    },
    "softmax backward": lambda: backward(lambda x: x.softmax(-1), (64, 500)),
    "log_softmax backward": lambda: backward(lambda x: x.log_softmax(-1), (64, 500)),
    "softmax of columns": lambda: on(lambda x: x.t().softmax(-1), (64, 500)),
    "product, expanded": lambda: backward(torch.mm, (64, 128), (128, 256)),
    "batch of products, expanded": lambda: backward(torch.bmm, (4, 64, 128), (4, 128, 256)),
    "mse_loss": lambda: on(F.mse_loss, (500, 1000), (500, 1000)),
    "smooth_l1_loss": lambda: on(F.smooth_l1_loss, (500, 1000), (500, 1000)),
    "huber_loss": lambda: on(F.huber_loss, (500, 1000), (500, 1000)),
    "binary_cross_entropy_with_logits": lambda: on(
        F.binary_cross_entropy_with_logits, (500, 1000), (500, 1000)
    ),
    "group_norm": lambda: on(lambda x: F.group_norm(x, 8), (4, 64, 32, 32)),
    "group_norm backward": lambda: backward(lambda x: F.group_norm(x, 8), (4, 64, 32, 32)),
    "max_pool2d backward": lambda: backward(lambda x: F.max_pool2d(x, 2), (4, 8, 32, 32)),
    "interpolate backward": lambda: backward(
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), (4, 8, 32, 32)
    ),
    "pad backward": lambda: backward(lambda x: F.pad(x, (1, 1, 1, 1), "reflect"), (4, 8, 32, 32)),
    "gather backward": lambda: gathered(100, 64),
    "topk backward": lambda: backward(lambda x: x.topk(5, -1)[0], (64, 500)),
    "max backward": lambda: backward(torch.max, (5000,)),
}


def gathered(*shape):
    x, index = zeros(*shape).requires_grad_(), indices(*shape)
    result = x.gather(0, index)
    grad = zeros(*shape)
    return lambda: torch.autograd.grad(result, x, grad)


def recorded(case):
    """[bytes, ~bytes where freed, ...] of the call, on a CUDA build."""
    call = case()
    torch.cuda.memory._record_memory_history(max_entries=100_000)
    start, end = 7_777_777, 8_888_888
    torch.empty(start, dtype=torch.uint8, device=CUDA)
    call()
    torch.empty(end, dtype=torch.uint8, device=CUDA)
    trace = torch.cuda.memory._snapshot()["device_traces"][0]
    torch.cuda.memory._record_memory_history(enabled=None)
    events = [
        event["size"] if event["action"] == "alloc" else ~event["size"]
        for event in trace
        if event["action"] in ("alloc", "free_completed")
    ]
    first = max(at for at, size in enumerate(events) if size == ~start)
    return events[first + 1 : events.index(end, first)]


def main():
    torch.backends.cudnn.enabled = False
    torch.mm(zeros(8, 8), zeros(8, 8))  # the workspace of this thread is there from now on
    recording = {
        "torch": torch.__version__,
        "capability": torch.cuda.get_device_capability(),
        "events": {name: recorded(case) for name, case in CASES.items()},
    }
    with open(sys.argv[1], "w", encoding="utf-8") as file:  # noqa: PTH123
        json.dump(recording, file, separators=(",", ":"))


if __name__ == "__main__":
    main()
