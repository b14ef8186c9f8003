"""Work for the self-test: what tests do, small, the same shapes each time."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from pytest_memreq.measure.selftest import Workload


class StoppedMidwayError(Exception):
    """What `fails-midway` ends in."""


class _Stops(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        doubled = inputs * 2
        raise StoppedMidwayError(doubled.shape)


class _Knot:
    """Holds itself, so that only the garbage collector frees its tensor."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.itself = self
        self.tensor = tensor


def _mlp(device: torch.device, *more: nn.Module) -> nn.Sequential:
    layers = (
        nn.Linear(512, 1024, device=device),
        nn.ReLU(),
        nn.Linear(1024, 512, device=device),
    )
    return nn.Sequential(*layers, *more)


def _encoder(device: torch.device) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(128, 4, 256, batch_first=True, device=device)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def mlp_adamw(device: torch.device) -> None:
    """Two steps: the optimizer's states are there from the second on."""
    model = _mlp(device)
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(2):
        model(torch.ones(64, 512, device=device)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def encoder_autocast(device: torch.device) -> None:
    """A step in bfloat16, with autocast's copies of the weights, dropout and attention."""
    model = _encoder(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        loss = model(torch.ones(8, 64, 128, device=device)).square().mean()
    loss.backward()
    optimizer.step()


def convolution(device: torch.device) -> None:
    """A step with the workspaces that cuDNN chooses."""
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, device=device),
        nn.BatchNorm2d(16, device=device),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1, device=device),
        nn.AdaptiveAvgPool2d(1),
    )
    model(torch.ones(8, 3, 64, 64, device=device)).square().mean().backward()


def inference(device: torch.device) -> None:
    """Each activation goes as soon as the next is there."""
    model = _encoder(device).eval()
    with torch.no_grad():
        model(torch.ones(8, 64, 128, device=device))


def garbage_cycles(device: torch.device) -> None:
    """Tensors that nothing references any more and that are still there at the end."""
    for count in range(1, 9):
        _Knot(torch.empty(count, 1000, 77, device=device))


def fails_midway(device: torch.device) -> None:
    """An error whose traceback holds a model and its activations."""
    model = _mlp(device, _Stops())
    model(torch.ones(64, 512, device=device)).sum().backward()


def small_tensors(device: torch.device) -> None:
    """Some thousand blocks of many sizes; half of them go, and others take their places."""
    sizes = [1 + 37 * at % 6000 for at in range(1500)]
    kept = [torch.empty(size, dtype=torch.uint8, device=device) for size in sizes]
    del kept[::2]
    kept += [torch.empty(size // 2 + 1, dtype=torch.uint8, device=device) for size in sizes]


def no_cudnn(device: torch.device) -> str:
    """Why convolutions cannot run on a CUDA device, "" where they can.

    By running one: `torch.backends.cudnn.version` refuses libraries that do not belong to each
    other when first asked, and never again.
    """
    if device.type != "cuda":
        return ""
    if not torch.backends.cudnn.enabled:
        return "cuDNN is turned off"
    one = torch.ones(1, 1, 1, 1, device=device)
    try:
        functional.conv2d(one, one)
    except RuntimeError as error:
        return f"cuDNN cannot be used here: {str(error).partition(chr(10))[0]}"
    return ""


WORKLOADS = (
    Workload(name="mlp-adamw", run=mlp_adamw),
    Workload(name="encoder-autocast", run=encoder_autocast),
    Workload(name="convolution", run=convolution, unusable=no_cudnn),
    Workload(name="inference", run=inference),
    Workload(name="garbage-cycles", run=garbage_cycles),
    Workload(name="fails-midway", run=fails_midway, raises=(StoppedMidwayError,)),
    Workload(name="small-tensors", run=small_tensors),
)
