"""CoAtNet (Dai et al., 2021): convolutions where the image is large, attention where it is small.

The squeeze of 0.25 is a share of the block's width: as a share of its widened channels CoAtNet-4
and CoAtNet-7 would be over the paper's counts. A convolution has a bias unless it is normalised.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, scaled_dot_product_attention

EXPANSION = 4  # of the hidden layer, in both kinds of block
SQUEEZE = 4  # a ratio of 0.25


def normalised(inputs: int, width: int, kernel: int, stride: int, groups: int) -> nn.Sequential:
    """A convolution, its normalisation and its activation."""
    conv = nn.Conv2d(inputs, width, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.GELU())


class SqueezeExcite(nn.Module):
    """Scale each channel by what the whole image says of it."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, squeezed, 1))
        excite = nn.Sequential(nn.Conv2d(squeezed, channels, 1), nn.Sigmoid())
        self.scale = nn.Sequential(squeeze, nn.GELU(), excite)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x * self.scale(x)
        return out


class MBConv(nn.Module):
    """Widen, convolve each channel alone, narrow; the first takes the stride (Eq. 5)."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        hidden = EXPANSION * width
        self.residual = nn.Sequential(
            nn.BatchNorm2d(inputs),
            normalised(inputs, hidden, kernel=1, stride=stride, groups=1),
            normalised(hidden, hidden, kernel=3, stride=1, groups=hidden),
            SqueezeExcite(hidden, width // SQUEEZE),
            nn.Conv2d(hidden, width, 1),
        )
        self.pool = nn.Identity() if stride == 1 else nn.MaxPool2d(stride)
        self.project = nn.Identity() if inputs == width else nn.Conv2d(inputs, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(self.pool(x)) + self.residual(x)
        return out


def relative_index(side: int) -> Tensor:
    """Where each pair of places finds its bias in a table of (2 side - 1) x (2 side - 1)."""
    places = torch.arange(side)
    apart = places[:, None] - places + side - 1
    index = apart[:, None, :, None] * (2 * side - 1) + apart[:, None, :]
    return index.flatten(2).flatten(0, 1)


class Attention(nn.Module):
    """Every place looks at every place, with a learned bias for how far apart they lie."""

    def __init__(self, inputs: int, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(inputs, 3 * width)
        self.bias = nn.Parameter(torch.zeros(heads, (2 * side - 1) ** 2))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        qkv = self.qkv(x.flatten(1, 2)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = scaled_dot_product_attention(q, k, v, attn_mask=self.bias[:, index][None])
        out: Tensor = self.out(attended.transpose(1, 2).flatten(2)).unflatten(1, x.shape[1:3])
        return out


class Transformer(nn.Module):
    """Attention, then two layers on each place alone; channels come last (Eq. 4)."""

    def __init__(self, inputs: int, width: int, stride: int, heads: int, side: int) -> None:
        super().__init__()
        self.stride = stride
        self.norm1 = nn.LayerNorm(inputs)
        self.attention = Attention(inputs, width, heads, side)
        self.project = nn.Identity() if inputs == width else nn.Linear(inputs, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, EXPANSION * width), nn.GELU(), nn.Linear(EXPANSION * width, width)
        )

    def pool(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            return x
        return max_pool2d(x.permute(0, 3, 1, 2), self.stride).permute(0, 2, 3, 1)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        attended = self.project(self.pool(x)) + self.attention(self.pool(self.norm1(x)), index)
        out: Tensor = attended + self.mlp(self.norm2(attended))
        return out


class TransformerStage(nn.Module):
    """Blocks of one width that share one index into their own tables of biases."""

    index: Tensor

    def __init__(self, blocks: list[Transformer], side: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.register_buffer("index", relative_index(side), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, self.index)
        return x


class CoAtNet(nn.Module):
    """A stem, stages of MBConv, and last `transformer_stages` of attention.

    Each stage halves the image, but where there are six: then the fourth and the fifth are the
    paper's S3 in two parts (Table 12), and the fifth keeps the size.
    """

    def __init__(
        self,
        layers: Sequence[int],
        widths: Sequence[int],
        transformer_stages: int,
        head_size: int,
        image_size: int = 224,
        classes: int = 1000,
    ) -> None:
        super().__init__()
        stem = normalised(3, widths[0], kernel=3, stride=2, groups=1)
        for _ in range(layers[0] - 1):
            stem.append(nn.Conv2d(widths[0], widths[0], 3, padding=1))
        self.convolutions = nn.Sequential(stem)
        self.transformers = nn.Sequential()
        side = image_size // 2
        for number, depth in enumerate(layers[1:], start=1):
            width, heads = widths[number], widths[number] // head_size
            stride = 1 if len(layers) == 6 and number == 4 else 2
            side //= stride
            sizes = [(widths[number - 1], width, stride), *[(width, width, 1)] * (depth - 1)]
            if number < len(layers) - transformer_stages:
                self.convolutions.append(nn.Sequential(*(MBConv(*size) for size in sizes)))
            else:
                blocks = [Transformer(*size, heads, side) for size in sizes]
                self.transformers.append(TransformerStage(blocks, side))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.convolutions(images).permute(0, 2, 3, 1)
        logits: Tensor = self.head(self.transformers(x).mean(dim=(1, 2)))
        return logits


def coatnet_0(image_size: int = 224) -> CoAtNet:
    """The smallest; the paper says 25 million parameters."""
    return CoAtNet([2, 2, 3, 5, 2], [64, 96, 192, 384, 768], 2, 32, image_size)


def coatnet_7(image_size: int = 512) -> CoAtNet:
    """The largest; the paper says 2.44 billion parameters."""
    widths = [192, 256, 512, 1024, 2048, 3072]
    return CoAtNet([2, 2, 4, 8, 42, 2], widths, 2, 128, image_size)
