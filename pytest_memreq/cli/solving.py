"""`memreq estimate --solve`: the largest batch, sequence or parameter count that fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pytest_memreq.bisection import LARGEST, Solution, solve
from pytest_memreq.cli.limits import Limit
from pytest_memreq.errors import MemreqError
from pytest_memreq.estimate.counts import MAX_COUNT
from pytest_memreq.estimate.formula import Setup, requirement
from pytest_memreq.estimate.lookup import row_of
from pytest_memreq.estimate.model import Model, Parameter
from pytest_memreq.estimate.transformer import Transformer
from pytest_memreq.requirement import Requirement
from pytest_memreq.units import format_size

Subject = Model | Transformer | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What was sought, the largest that fits the limit, and the requirement with it."""

    what: str
    limit: str
    solution: Solution
    needed: Requirement


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """The requirement as a function of what is sought, asked at multiples of `step`."""

    needs: Callable[[int], Requirement]
    largest: int = LARGEST
    step: int = 1


def answer(what: str, model: Subject, setup: Setup, limit: Limit) -> Answer:
    """The largest `what` that fits the limit; MemreqError where it is not to be found out."""
    question = row_of(UNKNOWNS, "--solve", what)(model, setup)
    found = solve(
        lambda value: question.needs(value).total_bytes,
        limit.bytes,
        step=question.step,
        largest=question.largest,
    )
    return Answer(what=what, limit=limit.name, solution=found, needed=question.needs(found.value))


def answer_text(found: Answer) -> str:
    """The answer in one line."""
    solution = found.solution
    spare = format_size(abs(solution.spare_bytes))
    what = "parameter count" if found.what == "parameters" else found.what
    if not solution.fits:
        return f"not even a {what} of {solution.value:,} fits {found.limit}: {spare} too much"
    return f"the largest {what} that fits {found.limit}: {solution.value:,}, {spare} to spare"


def _batch(model: Subject, setup: Setup) -> _Question:
    subject = _given(model, "batch")
    if requirement(subject, setup).breakdown.activations_bytes is None:
        raise MemreqError(
            "activations are not known, so a batch changes nothing; give a module and --input, or "
            "a configuration and --seq"
        )
    return _Question(needs=lambda batch: requirement(subject, replace(setup, batch_size=batch)))


def _sequence(model: Subject, setup: Setup) -> _Question:
    subject = _given(model, "sequence")
    if not isinstance(subject, Transformer):
        raise MemreqError("--solve sequence is for a configuration; a module runs on its inputs")
    return _Question(
        needs=lambda tokens: requirement(subject, replace(setup, sequence_length=tokens)),
        largest=subject.positions or LARGEST,
        step=setup.parallelism.tensor if setup.parallelism.sequence else 1,
    )


def _parameters(model: Subject, setup: Setup) -> _Question:
    if model is not None:
        raise MemreqError("--solve parameters is without a MODEL, which has its parameters")

    def needs(count: int) -> Requirement:
        return requirement(Model(parameters=(Parameter(shape=(count,)),), has_shapes=False), setup)

    return _Question(needs=needs, largest=MAX_COUNT)


def _given(model: Subject, what: str) -> Model | Transformer:
    if model is None:
        raise MemreqError(f"--solve {what} needs a MODEL; see memreq estimate --help")
    return model


UNKNOWNS: dict[str, Callable[[Subject, Setup], _Question]] = {
    "batch": _batch,
    "sequence": _sequence,
    "parameters": _parameters,
}
