"""How every model here is trained: cross-entropy, in bfloat16 where autocast allows it."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor, targets: Tensor
) -> Tensor:
    """One step on a batch; returns its loss. Targets are classes, one a sample or one a token."""
    optimizer.zero_grad()
    with torch.autocast(inputs.device.type, dtype=torch.bfloat16):
        logits = model(inputs)
        loss = cross_entropy(logits.flatten(0, -2), targets.flatten())
    loss.backward()
    optimizer.step()
    return loss.detach()
