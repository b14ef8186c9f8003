"""Networks of transformers that milabench trains (cases B12 and B16 to B18): what a batch adds.

milabench reads NVML, which has the CUDA context and what the caching allocator keeps. Of that only
the second is simulated, so that differences between two batches are compared. Readings of one
measurement differ by steps of 2 MiB. Points within a tenth of the card's memory are left out. The
models are made from their configurations, by the transformers that is installed; milabench's of
March 2025 was 4.48, whose T5 is written out. In Whisper's convolutions cuDNN may take workspaces,
which are in what is read.
"""

import gc
from functools import cache, partial
from itertools import pairwise

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.published_case import Case
from benchmarks.published_t5 import T5

H100 = "NVIDIA H100 80GB HBM3"
KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def bert():
    from transformers import AutoModelForMaskedLM, BertConfig

    return AutoModelForMaskedLM.from_config(BertConfig())


def reformer():
    from transformers import AutoModelForMaskedLM, ReformerConfig

    return AutoModelForMaskedLM.from_config(ReformerConfig(num_buckets=128))


def whisper():
    from transformers import AutoModelForAudioClassification, WhisperConfig

    return AutoModelForAudioClassification.from_config(WhisperConfig())


def tokens(length, batch):
    return {name: torch.zeros(batch, length, dtype=torch.int64) for name in ("input_ids", "labels")}


def sounds(batch):
    """Of the feature extractor: 80 bands, 30 seconds."""
    return {
        "input_features": torch.zeros(batch, 80, 3000),
        "labels": torch.zeros(batch, dtype=torch.int64),
    }


def training(make_model, make_data, batch):
    """Its loop in fp16, which never clears a gradient; from the second step on nothing is added."""
    model = make_model().to("cuda")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    scaler = torch.amp.GradScaler("cuda")

    def step(data):
        with torch.autocast("cuda", dtype=torch.float16):
            outputs = model(**data)
        loss = outputs[0]
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss

    for _ in range(2):
        data = {name: part.to("cuda") for name, part in make_data(batch).items()}
        loss = step(data)  # the last one's is there until this is done
        del data
    assert loss.dim() == 0


@cache
def kept(work, batch):
    """Bytes that the caching allocator keeps, in a process of its own.

    Of the kernels of attention torch 2.6 took flash, which is why cuDNN's is ruled out.
    """
    gc.collect()
    forget_workspaces()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    with sdpa_kernel(KERNELS):
        work(batch)
    return torch.cuda.max_memory_reserved()


def forget_workspaces():
    torch._C._cuda_clearCublasWorkspaces()


def added(work, fewer, more):
    return kept(work, more) - kept(work, fewer)


def slopes(work, batches):
    return {
        f"batch {fewer} to {more}": partial(added, work, fewer, more)
        for fewer, more in pairwise(batches)
    }


BATCHES = {
    "B12": (partial(training, bert, partial(tokens, 512)), (1, 16, 24, 40, 48, 64, 104, 136)),
    "B16": (partial(training, T5, partial(tokens, 1024)), (1, 8, 24, 32)),
    "B17": (
        partial(training, reformer, partial(tokens, 4096)),
        (1, 16, 24, 40, 48, 64, 72, 160),
    ),
    "B18": (
        partial(training, whisper, sounds),
        (1, 32, 56, 72, 80, 128, 144, 240, 496, 504),
    ),
}
CASES = [Case(id_, H100, slopes(*work)) for id_, work in BATCHES.items()]
