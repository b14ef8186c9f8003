"""What ranks tell each other in Python, where the others are not there to tell anything.

All ranks are taken to have what this one has. What only another rank can know is an error.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.distributed import distributed_c10d as c10d

from pytest_memreq.errors import SimulationError
from pytest_memreq.replacing import Replacement, replaced
from pytest_memreq.simulate.imports import replaced_in

STAGES = "torch.distributed.pipelining.stage"
# Collectives of objects in which this rank is one of many that say something.
SAID_BY_ALL = ("all_gather_object", "gather_object")


@contextmanager
def exchanging() -> Iterator[None]:
    """Within it objects of other ranks are this one's, and pipeline stages agree."""
    with replaced(_objects()), replaced_in(STAGES, _votes):
        yield


def _objects() -> Iterator[Replacement]:
    to_tensor: Any = c10d._object_to_tensor
    said: dict[str, Any] = {}

    def object_to_tensor(thing: Any, *args: Any, **kwargs: Any) -> Any:
        said[sys._getframe(1).f_code.co_name] = thing
        return to_tensor(thing, *args, **kwargs)

    def tensor_to_object(*_tensor_and_its_size: Any) -> Any:  # and what else its torch hands on
        asked = sys._getframe(1).f_code.co_name
        if asked not in SAID_BY_ALL or asked not in said:
            raise SimulationError(
                f"torch.distributed.{asked} asks for what another rank says, and only rank "
                f"{c10d.get_rank()} is simulated; simulate the rank that says it, or let the step "
                "know it without (a pipeline stage: give input_args and output_args)"
            )
        return said[asked]

    yield c10d, "_object_to_tensor", object_to_tensor
    yield c10d, "_tensor_to_object", tensor_to_object


def _votes(stages: Any) -> Iterator[Replacement]:
    """Stages vote on whether all know the shapes that they exchange: the others do as this one."""
    stage_class = stages.PipelineStage
    if not hasattr(stage_class, "_warmup_forward_vote"):
        return
    votes: WeakKeyDictionary[Any, torch.Tensor] = WeakKeyDictionary()

    def forward_vote(stage: Any, has_backward: bool, **_received: Any) -> torch.Tensor:
        is_known = not stages.InferenceMode.needs_dynamic(stage._user_meta, has_backward)
        votes[stage] = torch.tensor([int(is_known)], dtype=torch.int32, device="cpu")
        return votes[stage]

    def backward_result(stage: Any, **_received: Any) -> torch.Tensor:
        return votes[stage]

    yield stage_class, "_warmup_forward_vote", forward_vote
    yield stage_class, "_warmup_backward_result", backward_result
