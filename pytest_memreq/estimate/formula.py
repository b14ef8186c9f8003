"""The sum: a model, or a transformer's configuration, and a setup give what each rank needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pytest_memreq.errors import MemreqError
from pytest_memreq.estimate import activations as act
from pytest_memreq.estimate import states
from pytest_memreq.estimate.lookup import check_count, row_of
from pytest_memreq.estimate.model import Model, Parameter, Term
from pytest_memreq.estimate.optimizers import Optimizer, optimizer_of
from pytest_memreq.estimate.parallelism import ONE_DEVICE, Parallelism
from pytest_memreq.estimate.precisions import PRECISIONS, Precision
from pytest_memreq.estimate.sharding import rank_shares, worst_first
from pytest_memreq.estimate.transformer import (
    Transformer,
    blocks_of_stage,
    check_degrees,
    stage_parameters,
)
from pytest_memreq.requirement import RankShare, Requirement

TOKEN_BYTES = 8  # of an index, int64
TASKS = {name: name for name in ("training", "inference")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How a model is used: rows of the tables, degrees, and what one rank works on at a time."""

    precision: Precision
    optimizer: Optimizer
    batch_size: int = 1
    parallelism: Parallelism = ONE_DEVICE
    sequence_length: int | None = None
    recompute: str = "none"
    task: str = "training"

    @property
    def is_training(self) -> bool:
        """False where there is neither backward nor optimizer."""
        return self.task == "training"


def setup_of(
    *,
    optimizer: str,
    precision: str,
    batch_size: int,
    parallelism: Parallelism | None = None,
    sequence_length: int | None = None,
    recompute: str = "none",
    task: str = "training",
) -> Setup:
    """The setup of those names; MemreqError names what is known instead."""
    check_count("batch_size", batch_size)
    if not isinstance(parallelism, Parallelism | None):
        raise MemreqError(f"parallelism={parallelism!r} is no pytest_memreq.Parallelism")
    return Setup(
        precision=row_of(PRECISIONS, "precision", precision),
        optimizer=optimizer_of(optimizer),
        batch_size=batch_size,
        parallelism=ONE_DEVICE if parallelism is None else parallelism,
        sequence_length=sequence_length,
        recompute=row_of(act.RECOMPUTATIONS, "recompute", recompute),
        task=row_of(TASKS, "task", task),
    )


def requirement(model: Model | Transformer, setup: Setup) -> Requirement:
    """What each rank needs for the model; MemreqError where the setup does not go with it."""
    if isinstance(model, Transformer):
        return _transformer_requirement(model, setup)
    return _model_requirement(model, setup)


def _model_requirement(model: Model, setup: Setup) -> Requirement:
    _check_model(model, setup)
    terms = [
        *_state_terms(model.parameters, setup, has_shapes=model.has_shapes),
        *_activation_terms(model, setup),
        *([states.buffers(model.buffers, setup.precision)] if model.buffers else ()),
    ]
    return Requirement(
        ranks=worst_first(rank_shares(terms, setup.parallelism)),
        layers=model.layers,
        parameter_elements=sum(parameter.elements for parameter in model.parameters),
    )


def _check_model(model: Model, setup: Setup) -> None:
    degrees = setup.parallelism
    asked = {
        "tensor": degrees.tensor > 1,
        "pipeline": degrees.pipeline > 1,
        "expert": degrees.expert > 1,
        "sequence_length": setup.sequence_length is not None,
        "recompute": setup.recompute != "none",
    }
    for name, is_asked in asked.items():
        if is_asked:
            raise MemreqError(
                f"{name} divides or changes layers that only a transformer's configuration tells; "
                "give one, or leave it out"
            )
    if setup.optimizer.needs_shapes and setup.is_training and not model.has_shapes:
        raise MemreqError(
            f"optimizer={setup.optimizer.name!r} keeps states by the shape of each parameter; "
            "give a module or a configuration instead of a count"
        )


def _state_terms(
    parameters: tuple[Parameter, ...], setup: Setup, *, has_shapes: bool = True
) -> Iterator[Term]:
    precision, parallelism = setup.precision, setup.parallelism
    terms = (
        states.training_terms(parameters, precision, setup.optimizer)
        if setup.is_training
        else states.inference_terms(parameters, precision)
    )
    # A bare count does not tell how many parameters there are to keep a number for.
    yield from (term for term in terms if has_shapes or term.tier == "device")
    if has_shapes and (parallelism.zero == 3 or "parameters" in parallelism.offload):
        yield states.gathered(parameters, precision)


def _activation_terms(model: Model, setup: Setup) -> Iterator[Term]:
    """Bytes: elements of one sample x samples x 4 in mixed precision (founding formula)."""
    if model.activation_elements is None or not setup.is_training:
        return
    yield Term(
        word="activations",
        elements=model.activation_elements * setup.batch_size,
        element_bytes=setup.precision.activation_bytes,
    )
    # The formula counts the input among the activations.
    yield Term(word="inputs", elements=0, element_bytes=1)


def _transformer_requirement(model: Transformer, setup: Setup) -> Requirement:
    check_degrees(model, setup.parallelism)
    work = _work_of(model, setup)
    shares: list[RankShare] = []
    for stage in range(setup.parallelism.pipeline):
        parameters = stage_parameters(model, setup.parallelism, stage=stage)
        terms = [*_state_terms(parameters, setup), *_work_terms(model, work, setup, stage)]
        shares += rank_shares(
            terms, setup.parallelism, stage=stage, copies=setup.parallelism.tensor
        )
    return Requirement(ranks=worst_first(shares), parameter_elements=model.parameters)


def _work_of(model: Transformer, setup: Setup) -> act.Work | None:
    if setup.sequence_length is None:
        return None
    work = act.Work(
        sequences=setup.batch_size,
        tokens=setup.sequence_length,
        compute_bytes=setup.precision.compute_bytes,
        recompute=setup.recompute,
    )
    act.check_work(model, work, setup.parallelism)
    return work


def _work_terms(
    model: Transformer, work: act.Work | None, setup: Setup, stage: int
) -> Iterator[Term]:
    if work is None:
        return
    parallelism = setup.parallelism
    if not setup.is_training:
        layers = sum(blocks_of_stage(model, parallelism, stage))
        kept = act.cache_bytes(model, work, parallelism, layers=layers)
        yield from states.terms_of([("activations", kept)])
        return
    kept = _kept_bytes(model, work, parallelism, stage)
    yield from states.terms_of(
        [
            ("activations", kept),
            ("temporaries", act.working_bytes(model, work, parallelism)),
            ("inputs", 2 * work.all_tokens * TOKEN_BYTES),  # tokens and targets
        ]
    )


def _kept_bytes(model: Transformer, work: act.Work, parallelism: Parallelism, stage: int) -> int:
    """Bytes of activations on a rank of a stage, with all micro-batches that are under way there.

    The head's are of one micro-batch: its backward follows at once (arXiv 2205.05198, 4.3).
    """
    dense, routed = blocks_of_stage(model, parallelism, stage)
    kept = dense * act.block_bytes(model, work, parallelism)
    if routed:
        kept += routed * act.block_bytes(model, work, parallelism, has_experts=True)
    kept += act.embedding_bytes(model, work, parallelism) if stage == 0 else 0
    kept *= parallelism.microbatches_in_flight(stage)
    is_last = stage == parallelism.pipeline - 1
    return kept + (act.head_bytes(model, work, parallelism) if is_last else 0)
