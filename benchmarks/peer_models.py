"""Four models that are trained everywhere, two steps of each, and what a CUDA build recorded.

`python -m benchmarks.peer_models` records the peaks on a CUDA build of torch, with a card or
without (see `cuda_record`), into `data/peer_models.json`.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

RECORDED = Path(__file__).parent / "data" / "peer_models.json"


@dataclass(frozen=True)
class Work:
    """A model and a batch of it; `loss` is of the two."""

    what: str
    model: Callable[[], nn.Module]
    batch: Callable[[str], Tensor]
    loss: Callable[[nn.Module, Tensor], Tensor]
    dtype: torch.dtype = torch.float32


def resnet_50() -> nn.Module:
    """The example project's."""
    from example_project.models.resnet import ResNet50

    return ResNet50()


def bert_large() -> nn.Module:
    """BERT-large (Devlin et al., 2018) with its masked language head."""
    from transformers import BertConfig, BertForMaskedLM

    return BertForMaskedLM(
        BertConfig(
            hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096
        )
    )


def gpt_2() -> nn.Module:
    """GPT-2 of 124 million parameters."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config())


def llama_2_7b() -> nn.Module:
    """Llama 2 of 6.7 billion parameters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig())


def tokens(batch: int, length: int) -> Callable[[str], Tensor]:
    """Of a language model."""
    return lambda device: torch.zeros(batch, length, dtype=torch.int64, device=device)


def class_loss(model: nn.Module, images: Tensor) -> Tensor:
    """All are of the first class."""
    return cross_entropy(
        model(images), torch.zeros(len(images), dtype=torch.int64).to(images.device)
    )


def language_loss(model: nn.Module, batch: Tensor) -> Tensor:
    """The model's own."""
    loss: Tensor = model(input_ids=batch, labels=batch).loss
    return loss


WORKS = {
    "ResNet-50": Work(
        "fp32, batch 32 of 3 x 224 x 224",
        resnet_50,
        lambda device: torch.zeros(32, 3, 224, 224, device=device),
        class_loss,
    ),
    "BERT-large": Work("fp32, batch 4 of 512", bert_large, tokens(4, 512), language_loss),
    "GPT-2": Work("fp32, batch 4 of 1024", gpt_2, tokens(4, 1024), language_loss),
    "Llama-2-7B": Work(
        "bf16, batch 1 of 2048", llama_2_7b, tokens(1, 2048), language_loss, torch.bfloat16
    ),
}


def made(name: str, device: str) -> nn.Module:
    """The model, without values where there are none to be had."""
    work = WORKS[name]
    torch.set_default_dtype(work.dtype)
    try:
        with torch.device(device):
            return work.model().train()
    finally:
        torch.set_default_dtype(torch.float32)


def train(name: str, device: str, after_step: Callable[[], None] = lambda: None) -> None:
    """Two steps with AdamW."""
    work, model = WORKS[name], made(name, device)
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(2):
        work.loss(model, work.batch(device)).backward()
        optimizer.step()
        optimizer.zero_grad()
        after_step()


def record(name: str) -> int:
    """The peak of allocated, in bytes, on this build."""
    torch.backends.cudnn.enabled = False
    torch.backends.cuda.enable_cudnn_sdp(False)
    train(name, "cuda")
    return torch.cuda.max_memory_allocated()


def main() -> None:
    """Record each model in a process of its own. Convolutions need cuDNN: ResNet-50 is left out."""
    import multiprocessing

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", default=RECORDED)
    names = [name for name in WORKS if name != "ResNet-50"]
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        peaks = pool.map(record, names, chunksize=1)
    capability = multiprocessing.get_context("fork").Pool(1).apply(torch.cuda.get_device_capability)
    parser.parse_args().file.write_text(
        json.dumps(
            {
                "torch": torch.__version__.split("+")[0],
                "capability": capability,
                "allocated_bytes": dict(zip(names, peaks, strict=True)),
            },
            indent=1,
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
