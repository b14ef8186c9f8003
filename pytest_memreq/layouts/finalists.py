"""The best layouts by formula, simulated: the same model in torch, as one rank of all."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from pytest_memreq.errors import MemreqError
from pytest_memreq.estimate.optimizers import Optimizer, Option
from pytest_memreq.estimate.transformer import Transformer
from pytest_memreq.layouts.judging import Judged, ranked
from pytest_memreq.layouts.layout import Layout
from pytest_memreq.requirement import Metric
from pytest_memreq.simulate import simulate

if TYPE_CHECKING:
    import torch

# A layout that would not fit is simulated to its end all the same, to know what it needs.
NO_LIMIT_BYTES = 2**60
# In torch the weights are single precision, and copies of them half, whoever counts a gradient how.
MIXED = ("mixed", "mixed_half_gradients", "mixed_single_gradients")
PRECISIONS = (*MIXED, "fp32", "autocast", "bf16", "fp16")
# Names of classes of torch.optim that take any parameter and no closure.
OPTIMIZERS = {
    "sgd": "SGD",
    "adam": "Adam",
    "adamw": "AdamW",
    "adagrad": "Adagrad",
    "adadelta": "Adadelta",
    "rmsprop": "RMSprop",
    "nadam": "NAdam",
    "radam": "RAdam",
    "adamax": "Adamax",
    "asgd": "ASGD",
    "rprop": "Rprop",
}
MOST_NORMS = 4
# Ours, and what a version of torch may refuse one layout with: the others go on.
REFUSALS = (MemreqError, RuntimeError, ValueError, AssertionError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What is the same in all layouts: tokens of a sample, the precision's name, the optimizer."""

    tokens: int
    precision: str
    rule: Optimizer

    @property
    def is_mixed(self) -> bool:
        """Single-precision weights that are worked with in half precision."""
        return self.precision in MIXED

    def optimizer_class(self) -> tuple[type[torch.optim.Optimizer], dict[str, Option]]:
        """The class and its options. One parameter at a time: no list of temporaries of all."""
        from torch import optim

        options = dict(self.rule.options)
        return getattr(optim, OPTIMIZERS[self.rule.name]), {
            **options,
            **({} if options.get("fused") else {"foreach": False}),
        }

    def optimizer(self, parameters: Iterable[Any]) -> torch.optim.Optimizer:
        """The optimizer of those parameters."""
        kind, options = self.optimizer_class()
        make: Callable[..., torch.optim.Optimizer] = kind
        return make(parameters, **options)


def why_not(model: Transformer, layout: Layout, training: Training) -> str | None:
    """Why a layout cannot be simulated, None where it can."""
    reasons = {
        "experts have no module here": model.experts > 0,
        "a head with a bias has no module here": model.head_bias,
        f"{model.norms} norms in a block have no module here": not 2 <= model.norms <= MOST_NORMS,
        f"{training.precision} is none of torch's": training.precision not in PRECISIONS,
        f"{training.rule.name} is not simulated here": training.rule.name not in OPTIMIZERS,
        "torch offloads with FSDP alone, ZeRO-2 and 3": layout.offload != "none"
        and layout.zero < 2,
        "DistributedDataParallel is not simulated with tensor parallelism": layout.zero < 2
        and layout.data > 1
        and layout.tensor > 1,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def marked(model: Transformer, found: Judged, training: Training) -> Judged:
    """The layout, with why it cannot be simulated if it cannot."""
    return replace(found, not_simulated=why_not(model, found.layout, training))


def chosen(found: Iterable[Judged], count: int) -> tuple[Judged, ...]:
    """The best that fit by formula and can be simulated, at most `count`."""
    able = (each for each in ranked(found) if each.fits and each.not_simulated is None)
    return tuple(islice(able, count))


def simulated(
    model: Transformer,
    found: Judged,
    training: Training,
    *,
    gpu: str,
    metric: Metric = "reserved",
    progress: Callable[[int], object] | None = None,
) -> Judged:
    """The layout with what its first rank needs by simulation, or why that was not found out.

    `progress` is as `simulate` calls it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, on a model that nobody else wrote
        from pytest_memreq.layouts.training import step_of  # imports torch

        step = step_of(model, found.layout, training)
        try:
            peak = simulate(
                step,
                gpu=gpu,
                capacity=NO_LIMIT_BYTES,
                world_size=found.layout.ranks,
                progress=progress,
            ).peak.of(metric)
        except REFUSALS as error:
            said = " ".join(str(error).split()) or type(error).__name__
            return replace(found, not_simulated=said)
    return replace(found, simulated_bytes=peak)
