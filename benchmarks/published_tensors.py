"""Layers and tensors whose bytes were read one by one (cases A24 and A25)."""

from functools import partial

import torch
from torch import nn

from benchmarks.published_case import Case

CUDA = {"device": "cuda"}
A100 = "NVIDIA A100-SXM4-80GB"


def linear_layers(count):
    layers = [nn.Linear(100, 100).cuda() for _ in range(count)]
    assert len(layers) == count
    return torch.cuda.memory_allocated()


def linear_and_input(*, backward):
    layer, x = nn.Linear(1024, 1024).cuda(), torch.randn(512, 1024, **CUDA)
    if backward:
        layer(x).mean().backward()
        forget_workspaces()
    return torch.cuda.memory_allocated()


def forget_workspaces():
    """Up to torch 1.10 they were not in the caching allocator."""
    torch._C._cuda_clearCublasWorkspaces()


def tensors_of_a_linear(part):
    before = torch.cuda.memory_allocated()
    layer = nn.Linear(10_000, 50_000, bias=False).cuda()
    weights = torch.cuda.memory_allocated()
    x = torch.randn(5_000, 10_000, **CUDA)
    inputs = torch.cuda.memory_allocated()
    with torch.no_grad():
        y = layer(x)
    forget_workspaces()
    sizes = {
        "weights": weights - before,
        "input": inputs - weights,
        "output": torch.cuda.memory_allocated() - inputs,
    }
    assert y.shape == (5_000, 50_000)
    return sizes[part]


CASES = [
    Case(
        "A24",
        A100,
        {
            **{
                label: partial(linear_layers, count)
                for count, label in enumerate(("Linear(100,100) x1", "x2", "x3"), start=1)
            },
            "Linear(1024,1024)+input(512,1024)": partial(linear_and_input, backward=False),
            "after backward": partial(linear_and_input, backward=True),
        },
    ),
    Case(
        "A25",
        A100,
        {
            "Linear(10000,50000) weights": partial(tensors_of_a_linear, "weights"),
            "input (5000,10000)": partial(tensors_of_a_linear, "input"),
            "output": partial(tensors_of_a_linear, "output"),
        },
    ),
]
