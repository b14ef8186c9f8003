"""Memory that CUDA's kernels take and give back within one operator.

A dispatch mode sees an operator's arguments and results, not what its kernel allocates in between.
Each rule says so for one operator, from PyTorch's source.
"""

from __future__ import annotations

from pytest_memreq.simulate.kernels import (
    attention,
    embeddings,
    exchanging,
    indexing,
    layers,
    lists,
    losses,
    sampling,
    selecting,
    sorting,
    statistics,
)
from pytest_memreq.simulate.kernels.call import NO_SCRATCH, RESULT, Call, Rule, Scratch

RULES: dict[str, Rule] = {
    **layers.RULES,
    **losses.RULES,
    **lists.RULES,
    **attention.RULES,
    **sorting.RULES,
    **statistics.RULES,
    **embeddings.RULES,
    **sampling.RULES,
    **selecting.RULES,
    **indexing.RULES,
    **exchanging.RULES,
}


def has_rule(operator: str) -> bool:
    """True for an operator whose kernel is known to take memory for itself."""
    return operator in RULES


def scratch_of(operator: str, call: Call) -> Scratch | None:
    """What the kernel of an operator takes for itself, None where no rule knows of any."""
    rule = RULES.get(operator)
    return None if rule is None else rule(call)


__all__ = ["NO_SCRATCH", "RESULT", "Call", "Scratch", "has_rule", "scratch_of"]
