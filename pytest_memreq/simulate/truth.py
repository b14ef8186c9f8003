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
    "aten.isin": lambda _number, _sought: False,  # how ends and padding are looked for
    **{f"aten.{name}": getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")},
}
SAME = frozenset(
    f"aten.{name}"
    for name in (
        *("all", "any", "_is_all_true", "_is_any_true", "clone", "_to_copy"),
        *("index", "index_select", "gather", "sum", "count_nonzero"),
    )
)
BOTH = frozenset(f"aten.{name}" for name in ("logical_and", "bitwise_and", "mul"))
EITHER = frozenset(f"aten.{name}" for name in ("logical_or", "bitwise_or"))
NOT = frozenset(f"aten.{name}" for name in ("logical_not", "bitwise_not"))


def truth_of(
    name: str,
    args: Any,
    known: Callable[[Tensor], bool | None],
    number: Callable[[Tensor], int | float | None],
) -> bool | None:
    """Of the result of an operator, by what is `known` of its arguments; None if it is not.

    `number` is what all values of a tensor are. A count is true where there is anything to count.
    """
    compare = COMPARISONS.get(name)
    if compare is not None:
        sides = [number(arg) if isinstance(arg, Tensor) else arg for arg in args[:2]]
        first, second = (TYPICAL if side is None else side for side in sides)
        is_complex = isinstance(first, complex) or isinstance(second, complex)
        return None if is_complex else bool(compare(first, second))
    if name not in SAME | BOTH | EITHER | NOT:
        return None
    given = [known(arg) for arg in args if isinstance(arg, Tensor)]
    if name in SAME:
        return given[0]
    if name in NOT:
        return None if given[0] is None else not given[0]
    decisive = name in EITHER  # whatever the other is
    if decisive in given:
        return decisive
    return None if None in given or not given else not decisive
