"""Two training steps of each model: the second needs what every later one will."""

import pytest
import torch
from models.alexnet import AlexNet
from models.gpt import GPT
from models.resnet import ResNet50
from models.training import train_step
from models.vit import ViT

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
STEPS = 2


def train(model, optimizer, inputs, targets):
    for _ in range(STEPS):
        loss = train_step(model, optimizer, inputs, targets)
    assert loss.shape == ()
    assert all(parameter.grad is not None for parameter in model.parameters())


def labelled_images(count, size):
    images = torch.randn(count, 3, size, size, device=DEVICE)
    return images, torch.randint(1000, (count,), device=DEVICE)


@pytest.mark.max_gpu_memory("2 GiB")
def test_alexnet():
    model = AlexNet().to(DEVICE)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    train(model, optimizer, *labelled_images(128, size=227))


@pytest.mark.max_gpu_memory("2.5 GiB")
def test_resnet50():
    model = ResNet50().to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    train(model, optimizer, *labelled_images(32, size=224))


@pytest.mark.max_gpu_memory("4 GiB")
def test_vit():
    with torch.device(DEVICE):
        model = ViT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    train(model, optimizer, *labelled_images(32, size=224))


@pytest.mark.max_gpu_memory("10 GiB")
def test_gpt():
    with torch.device(DEVICE):
        model = GPT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-4, betas=(0.9, 0.95))
    text = torch.randint(50257, (8, 1025), device=DEVICE)
    train(model, optimizer, text[:, :-1], text[:, 1:])
