"""Residual networks and reversible ones on CIFAR-10, by memcnn (case B36).

Its trainer reads torch.cuda.memory_allocated after the forward and the loss, less what the model
had at first. From the second batch on gradients and momenta are in that as well; since the table is
of activations, the first is taken. MB are 2**20 bytes: only so are its sizes of parameters right.
Workspaces of cuBLAS were not in the caching allocator in 2019, and what cuDNN takes is gone by
then. The reversible block is that of today, whose backward is not reached.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from benchmarks.published_case import Case


class Invertible(torch.autograd.Function):
    """InvertibleCheckpointFunction: the input's storage is let go, the object is kept."""

    @staticmethod
    def forward(ctx, coupling, x, *weights):
        with torch.no_grad():
            output = coupling(x.detach())
        output.detach_()
        x.untyped_storage().resize_(0)
        ctx.coupling, ctx.input, ctx.weights = coupling, x, weights
        return output


class Coupling(nn.Module):
    def __init__(self, first, second):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x):
        x1, x2 = (part.contiguous() for part in torch.chunk(x, 2, dim=1))
        y1 = x1 + self.first(x2)
        y2 = x2 + self.second(y1)
        return torch.cat([y1, y2], dim=1)


def convolutions(inputs, planes, stride, bottleneck):
    """Arguments of each convolution of a block."""
    if bottleneck:
        return ((inputs, planes, 1, 1), (planes, planes, 3, stride), (planes, 4 * planes, 1, 1))
    return ((inputs, planes, 3, stride), (planes, planes, 3, 1))


def residual(inputs, planes, stride, shape, activated):
    parts = []
    for at, (given, made, kernel, step) in enumerate(
        convolutions(inputs, planes, stride, shape.bottleneck)
    ):
        if at > 0 or activated:
            parts += [nn.BatchNorm2d(given), nn.ReLU(inplace=True)]
        parts.append(nn.Conv2d(given, made, kernel, step, padding=kernel // 2, bias=False))
    return nn.Sequential(*parts)


class Block(nn.Module):
    def __init__(self, inputs, planes, stride, shape, activated):
        super().__init__()
        outputs = planes * shape.expansion
        self.downsample = self.coupling = self.sub = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        if shape.reversible and self.downsample is None:
            halves = (inputs // 2, planes // 2, stride, shape, activated)
            self.coupling = Coupling(*(residual(*halves) for _ in range(2)))
        else:
            self.sub = residual(inputs, planes, stride, shape, activated)

    def forward(self, x):
        if self.coupling is not None:
            return Invertible.apply(self.coupling, x, *self.coupling.parameters())
        out = self.sub(x)
        out += x if self.downsample is None else self.downsample(x)
        return out


@dataclass(frozen=True)
class Shape:
    """Of a network: blocks of each of three stages, and their channels."""

    blocks: int
    channels: tuple[int, int, int, int] = (16, 16, 32, 64)
    bottleneck: bool = False
    reversible: bool = False

    @property
    def expansion(self):
        return 4 if self.bottleneck else 1


class Network(nn.Module):
    def __init__(self, shape):
        super().__init__()
        inputs = shape.channels[0]
        self.conv1 = nn.Conv2d(3, inputs, 3, padding=1, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(inputs), nn.ReLU()
        blocks = []
        for at, planes in enumerate(shape.channels[1:]):
            for block in range(shape.blocks):
                stride = 2 if at > 0 and block == 0 else 1
                blocks.append(Block(inputs, planes, stride, shape, bool(at or block)))
                inputs = planes * shape.expansion
        self.blocks = nn.Sequential(*blocks)
        self.bn_final, self.avgpool = nn.BatchNorm2d(inputs), nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(inputs, 10)

    def forward(self, x):
        x = self.conv1(x)
        x = self.bn1(x)
        x = self.relu(x)
        x = self.blocks(x)
        x = self.bn_final(x)
        x = self.relu(x)
        x = self.avgpool(x)
        return self.fc(x.view(x.size(0), -1))


def loss_of(prediction, label):
    one_hot = torch.zeros(prediction.shape, dtype=torch.float32, device=prediction.device)
    one_hot.scatter_(1, label.view(-1, 1), 1)
    return torch.mean(-one_hot * torch.log(nn.Softmax(dim=1)(prediction))) * prediction.shape[1]


def activations(shape):
    """What is there after the forward of 100 images, and was not before."""
    model = Network(shape).to("cuda")
    before = torch.cuda.memory_allocated()
    x, label = torch.zeros(100, 3, 32, 32), torch.zeros(100, dtype=torch.int64)
    x, label = x.to("cuda"), label.to("cuda")
    score = model(x)
    loss = loss_of(score, label)
    assert loss.requires_grad
    return torch.cuda.memory_allocated() - before


REVERSIBLE = {"channels": (32, 32, 64, 128), "reversible": True}
SHAPES = {
    "ResNet-32": Shape(5),
    "RevNet-38": Shape(3, channels=(32, 32, 64, 112), reversible=True),
    "ResNet-110": Shape(18),
    "RevNet-110": Shape(9, **REVERSIBLE),
    "ResNet-164": Shape(18, bottleneck=True),
    "RevNet-164": Shape(9, bottleneck=True, **REVERSIBLE),
}
CASES = [
    Case(
        "B36",
        "NVIDIA A100-SXM4-40GB",
        {label: partial(activations, shape) for label, shape in SHAPES.items()},
        workspaces=":0:0",
    )
]
