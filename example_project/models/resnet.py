"""ResNet-50 (He et al., 2015), with the stride in the 3 x 3 convolution as torchvision has it."""

from torch import Tensor, nn


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """A convolution that keeps the image's size but for its stride, and its normalisation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )


class Bottleneck(nn.Module):
    """Narrow to `width`, convolve, widen to four times `width`, and add what came in."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.narrow = convolution(inputs, width, kernel=1)
        self.convolve = convolution(width, width, kernel=3, stride=stride)
        self.widen = convolution(width, outputs, kernel=1)
        self.shortcut = (
            nn.Identity() if inputs == outputs else convolution(inputs, outputs, 1, stride)
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.narrow(x))
        y = self.relu(self.convolve(y))
        y = self.widen(y)
        y += self.shortcut(x)
        out: Tensor = self.relu(y)
        return out


def stage(inputs: int, width: int, depth: int, stride: int) -> nn.Sequential:
    """`depth` bottlenecks, the first of which takes the stride."""
    first = Bottleneck(inputs, width, stride)
    return nn.Sequential(first, *(Bottleneck(4 * width, width, 1) for _ in range(depth - 1)))


class ResNet50(nn.Module):
    """Sixteen bottlenecks in four stages: 25,557,032 parameters."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            convolution(3, 64, kernel=7, stride=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
        )
        self.stages = nn.Sequential(
            stage(64, width=64, depth=3, stride=1),
            stage(256, width=128, depth=4, stride=2),
            stage(512, width=256, depth=6, stride=2),
            stage(1024, width=512, depth=3, stride=2),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(2048, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.pool(self.stages(self.stem(images))).flatten(1)
        logits: Tensor = self.head(features)
        return logits
