"""Models as they are served; their budget is in pyproject.toml."""

import pytest
import torch
from models.gpt import GPT, generate
from models.vit import ViT

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="serving needs a GPU")


@pytest.fixture
def vit():
    with torch.device("cuda"):
        return ViT().eval()


@pytest.fixture
def gpt():
    with torch.device("cuda"):
        return GPT().eval()


def test_vit_classifies_a_batch(vit):
    with torch.inference_mode():
        logits = vit(torch.randn(32, 3, 224, 224, device="cuda"))
    assert logits.shape == (32, 1000)


def test_gpt_continues_a_text(gpt):
    prompt = torch.randint(50257, (8, 128), device="cuda")
    assert generate(gpt, prompt, length=16).shape == (8, 128 + 16)
