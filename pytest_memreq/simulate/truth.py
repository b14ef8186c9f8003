"""What a comparison on the pretended card says, where all numbers are taken to be alike.

Code looks at values to find what is wrong: labels out of range, scales that are not positive,
infinite losses, masks of nothing. With a number just above 0 it finds nothing.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from torch import Tensor

TYPICAL = 1e-9
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    f"aten.{name}": getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")
}
SAME = frozenset(
    f"aten.{name}" for name in ("all", "any", "_is_all_true", "_is_any_true", "clone", "_to_copy")
)
BOTH = frozenset(f"aten.{name}" for name in ("logical_and", "bitwise_and", "mul"))
EITHER = frozenset(f"aten.{name}" for name in ("logical_or", "bitwise_or"))
NOT = frozenset(f"aten.{name}" for name in ("logical_not", "bitwise_not"))


def truth_of(name: str, args: Any, known: Callable[[Tensor], bool | None]) -> bool | None:
    """Of the result of an operator, by what is `known` of its arguments; None if it is not."""
    compare = COMPARISONS.get(name)
    if compare is not None:
        other = TYPICAL if isinstance(args[1], Tensor) else args[1]
        return None if isinstance(other, complex) else bool(compare(TYPICAL, other))
    if name not in SAME | BOTH | EITHER | NOT:
        return None
    given = [known(arg) for arg in args if isinstance(arg, Tensor)]
    if not given or None in given:
        return None
    if name in NOT:
        return not given[0]
    return any(given) if name in EITHER else all(given)
