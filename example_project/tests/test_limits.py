"""A requirement by formula, a budget that is a share of the card, and one that is too small."""

import pytest
import torch
from models.alexnet import AlexNet
from models.gpt import GPT
from models.resnet import ResNet50
from models.training import train_step

from pytest_memreq import MemoryBudgetExceeded


def test_alexnet_by_formula(memreq):
    """20 bytes a parameter and 4 an activation, as in mixed precision with Adam."""
    requirement = memreq.estimate(AlexNet(), torch.zeros(1, 3, 227, 227))
    assert requirement.breakdown.activations_bytes == 4 * 936_323
    assert requirement.total_bytes == 20 * 62_378_344 + 4 * 936_323 == 1_251_312_172


@pytest.mark.max_gpu_memory("80%")
def test_large_batch_leaves_a_fifth_of_the_card(memreq):
    model = ResNet50().to(memreq.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    images = torch.randn(256, 3, 224, 224, device=memreq.device)
    labels = torch.randint(1000, (256,), device=memreq.device)
    for _ in range(2):
        assert train_step(model, optimizer, images, labels).shape == ()


@pytest.mark.max_gpu_memory("4 GiB")
@pytest.mark.xfail(strict=True, raises=MemoryBudgetExceeded, reason="too large a batch")
def test_batch_that_outgrows_its_budget(memreq):
    with memreq.device:
        model = GPT()
        text = torch.randint(50257, (8, 1025))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train_step(model, optimizer, text[:, :-1], text[:, 1:])
