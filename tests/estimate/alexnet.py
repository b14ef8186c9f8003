"""The one-tower AlexNet and its layer table, as the formula's source has them."""

from collections import OrderedDict

from torch import nn

# Layer, shape as torch orders it, activation size, kernels, biases; source: the founding slides.
TABLE = (
    ("Input", (3, 227, 227), 154_587, 0, 0),
    ("Conv-1", (96, 55, 55), 290_400, 34_848, 96),
    ("MaxPool-1", (96, 27, 27), 69_984, 0, 0),
    ("Conv-2", (256, 27, 27), 186_624, 614_400, 256),
    ("MaxPool-2", (256, 13, 13), 43_264, 0, 0),
    ("Conv-3", (384, 13, 13), 64_896, 884_736, 384),
    ("Conv-4", (384, 13, 13), 64_896, 1_327_104, 384),
    ("Conv-5", (256, 13, 13), 43_264, 884_736, 256),
    ("MaxPool-3", (256, 6, 6), 9_216, 0, 0),
    ("FC-1", (4096,), 4_096, 37_748_736, 4_096),
    ("FC-2", (4096,), 4_096, 16_777_216, 4_096),
    ("FC-3", (1000,), 1_000, 4_096_000, 1_000),
)
PARAMETERS = 62_378_344
ACTIVATIONS = 936_323
TOTAL_BYTES = 1_251_312_172


def one_tower() -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            [
                ("Conv-1", nn.Conv2d(3, 96, 11, stride=4)),
                ("ReLU-1", nn.ReLU(inplace=True)),
                ("MaxPool-1", nn.MaxPool2d(3, 2)),
                ("Conv-2", nn.Conv2d(96, 256, 5, padding=2)),
                ("ReLU-2", nn.ReLU(inplace=True)),
                ("MaxPool-2", nn.MaxPool2d(3, 2)),
                ("Conv-3", nn.Conv2d(256, 384, 3, padding=1)),
                ("ReLU-3", nn.ReLU(inplace=True)),
                ("Conv-4", nn.Conv2d(384, 384, 3, padding=1)),
                ("ReLU-4", nn.ReLU(inplace=True)),
                ("Conv-5", nn.Conv2d(384, 256, 3, padding=1)),
                ("ReLU-5", nn.ReLU(inplace=True)),
                ("MaxPool-3", nn.MaxPool2d(3, 2)),
                ("Flatten", nn.Flatten()),
                ("FC-1", nn.Linear(256 * 6 * 6, 4096)),
                ("ReLU-6", nn.ReLU(inplace=True)),
                ("FC-2", nn.Linear(4096, 4096)),
                ("ReLU-7", nn.ReLU(inplace=True)),
                ("FC-3", nn.Linear(4096, 1000)),
            ]
        )
    )
