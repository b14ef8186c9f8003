"""torchvision's RegNet-Y 128GF, as milabench trains it (case B15): what a batch adds.

Its convolutions take workspaces of cuDNN that are not simulated, but in what NVML reads. From a
batch of 136 on they are larger by far, so that smaller ones are compared.
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from benchmarks.published_case import Case
from benchmarks.published_slopes import H100, slopes

WIDTHS, DEPTHS, GROUP = (528, 1056, 2904, 7392), (2, 7, 17, 1), 264


def convolution(inputs, outputs, kernel=1, stride=1, groups=1, *, active=True):
    parts = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*parts, *([nn.ReLU(inplace=True)] if active else []))


class Squeeze(nn.Module):
    def __init__(self, width, squeezed):
        super().__init__()
        self.avgpool, self.relu, self.gate = nn.AdaptiveAvgPool2d(1), nn.ReLU(), nn.Sigmoid()
        self.fc1, self.fc2 = nn.Conv2d(width, squeezed, 1), nn.Conv2d(squeezed, width, 1)

    def scale(self, x):
        scale = self.avgpool(x)
        scale = self.fc1(scale)
        scale = self.relu(scale)
        scale = self.fc2(scale)
        return self.gate(scale)

    def forward(self, x):
        scale = self.scale(x)
        return scale * x


class Block(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        differs = inputs != width or stride != 1
        self.proj = convolution(inputs, width, stride=stride, active=False) if differs else None
        self.f = nn.Sequential(
            convolution(inputs, width),
            convolution(width, width, 3, stride, width // GROUP),
            Squeeze(width, round(0.25 * inputs)),
            convolution(width, width, active=False),
        )
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x):
        x = x + self.f(x) if self.proj is None else self.proj(x) + self.f(x)
        return self.activation(x)


class RegNet(nn.Module):
    def __init__(self):
        super().__init__()
        blocks, inputs = [], 32
        for width, depth in zip(WIDTHS, DEPTHS, strict=True):
            for at in range(depth):
                blocks.append(Block(inputs, width, 2 if at == 0 else 1))
                inputs = width
        self.stem = convolution(3, 32, 3, 2)
        self.trunk = nn.Sequential(*blocks)
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(inputs, 1000)

    def forward(self, x):
        x = self.stem(x)
        x = self.trunk(x)
        x = self.avgpool(x)
        return self.fc(x.flatten(start_dim=1))


def regnet(batch):
    """Two steps of milabench's loop for torchvision: backward is under autocast as well."""
    with torch.device("meta"):
        model = RegNet()
    model.to_empty(device="cuda")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cuda")
    for _ in range(2):
        inputs = torch.zeros(batch, 3, 224, 224).to(device="cuda", dtype=torch.float16)
        target = torch.zeros(batch, dtype=torch.int64).to("cuda")
        optimizer.zero_grad()
        with torch.autocast("cuda", dtype=torch.float16):
            output = model(inputs)
            loss = cross_entropy(output, target)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()


CASES = [Case("B15", H100, slopes(regnet, (1, 32, 56, 64, 72, 80, 128)))]
