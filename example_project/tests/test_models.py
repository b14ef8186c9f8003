"""The models are the published ones: parameters and outputs, on no device at all."""

import pytest
import torch
from models.alexnet import AlexNet
from models.gpt import GPT
from models.resnet import ResNet50
from models.vit import ViT

IMAGES_227 = torch.empty(2, 3, 227, 227, device="meta")
IMAGES_224 = torch.empty(2, 3, 224, 224, device="meta")
TOKENS = torch.empty(2, 64, dtype=torch.long, device="meta")


@pytest.mark.parametrize(
    ("architecture", "inputs", "parameters", "output_shape"),
    [
        (AlexNet, IMAGES_227, 62_378_344, (2, 1000)),
        (ResNet50, IMAGES_224, 25_557_032, (2, 1000)),
        (ViT, IMAGES_224, 86_567_656, (2, 1000)),
        (GPT, TOKENS, 124_439_808, (2, 64, 50257)),
    ],
)
def test_parameters_and_output_shape(architecture, inputs, parameters, output_shape):
    with torch.device("meta"):
        model = architecture()
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert model(inputs).shape == output_shape
