"""Model states as terms: what parameters, gradients and optimizer need, each from its quantities.

The sum is the founding formula, derived in docs/formulas.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pytest_memreq.estimate.model import Buffers, Parameter, Term
from pytest_memreq.estimate.optimizers import Optimizer
from pytest_memreq.estimate.precisions import Precision

Parameters = Sequence[Parameter]


def training_terms(
    parameters: Parameters, precision: Precision, optimizer: Optimizer
) -> Iterator[Term]:
    """Everything that depends on the parameters alone; what is frozen has its weights only."""
    trained = [parameter for parameter in parameters if parameter.is_trainable]
    yield from weights(parameters, precision)
    yield from gradients(trained, precision)
    yield from copies(trained, precision)
    yield from optimizer_states(trained, precision, optimizer)
    if precision.cast_bytes:
        yield from casts(parameters, precision)


def inference_terms(parameters: Parameters, precision: Precision) -> Iterator[Term]:
    """The weights alone; what only training has is known to need nothing."""
    yield from weights(parameters, precision)
    yield from terms_of([("gradients", 0), ("optimizer_states", 0)])


def weights(parameters: Parameters, precision: Precision) -> Iterator[Term]:
    """Bytes: elements x 2 in mixed precision; packed weights at their own size."""
    yield Term(word="parameters", elements=0, element_bytes=precision.parameter_bytes)
    for parameter in parameters:
        own_bytes = parameter.element_bytes
        yield _term(
            "parameters", parameter, precision.parameter_bytes if own_bytes is None else own_bytes
        )


def gradients(trained: Parameters, precision: Precision) -> Iterator[Term]:
    """Bytes: trainable elements x 2 in mixed precision (founding formula)."""
    yield Term(word="gradients", elements=0, element_bytes=precision.gradient_bytes)
    for parameter in trained:
        yield _term("gradients", parameter, precision.gradient_bytes)


def copies(trained: Parameters, precision: Precision) -> Iterator[Term]:
    """Bytes: trainable elements x 4 for each single-precision copy (founding formula)."""
    for parameter in trained:
        for _ in precision.copies:
            yield _term("optimizer_states", parameter, precision.state_bytes)


def optimizer_states(
    trained: Parameters, precision: Precision, optimizer: Optimizer
) -> Iterator[Term]:
    """Bytes of each state, by the shape of each trainable parameter (torch/optim/*.py)."""
    yield Term(word="optimizer_states", elements=0, element_bytes=precision.state_bytes)
    for state in optimizer.states:
        own_bytes = state.element_bytes
        element_bytes = precision.state_bytes if own_bytes is None else own_bytes
        for parameter in trained[:1] if state.is_shared else trained:
            yield Term(
                word="optimizer_states",
                elements=state.elements(parameter.shape)
                * (1 if state.is_shared else parameter.count),
                element_bytes=element_bytes,
                is_expert=parameter.is_expert and not state.is_shared,
                tier=state.tier,
            )


def casts(parameters: Parameters, precision: Precision) -> Iterator[Term]:
    """Bytes: elements x 2 for the copies that autocast makes of weights in a pass.

    An upper bound: those that only normalize are not cast.
    """
    for parameter in parameters:
        yield _term("temporaries", parameter, precision.cast_bytes)


def buffers(held: Buffers, precision: Precision) -> Term:
    """Bytes: at their own size, or that of a model moved to half precision as a whole."""
    size_bytes = precision.buffer_bytes
    floating = held.floating_bytes if size_bytes is None else held.floating_elements * size_bytes
    return Term(word="buffers", elements=floating + held.other_bytes, element_bytes=1)


def gathered(parameters: Parameters, precision: Precision) -> Term:
    """Bytes a rank needs to work on the largest parameter where it holds only a part of it.

    The whole of it and of its gradient. ZeRO-Infinity (arXiv 2104.07857), equation 4, which for a
    transformer's 4 hd x hd bytes x (2 + 2) says 4 hd x 4 hd.
    """
    largest = max((p.elements // p.count for p in parameters), default=0)
    return Term(
        word="temporaries",
        elements=largest,
        element_bytes=precision.parameter_bytes + precision.gradient_bytes,
    )


def _term(word: str, parameter: Parameter, element_bytes: int) -> Term:
    return Term(
        word=word,
        elements=parameter.elements,
        element_bytes=element_bytes,
        is_expert=parameter.is_expert,
    )


def terms_of(words: Iterable[tuple[str, int]]) -> Iterator[Term]:
    """Terms of whole bytes."""
    for word, size_bytes in words:
        yield Term(word=word, elements=size_bytes, element_bytes=1)
