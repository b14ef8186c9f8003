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
JOINED = frozenset(("aten.cat", "aten.stack"))
CHOICE = "aten.where"
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
    if name in COMPARISONS:
        return _compared(COMPARISONS[name], args, number)
    if name == CHOICE:
        chosen = chosen_of(args, known)
        return known(chosen) if isinstance(chosen, Tensor) else None
    if name in JOINED:
        truths = set(map(known, args[0]))
        return truths.pop() if len(truths) == 1 else None
    return _combined(name, [known(arg) for arg in args if isinstance(arg, Tensor)])


def _compared(
    compare: Callable[[Any, Any], bool], args: Any, number: Callable[[Tensor], int | float | None]
) -> bool | None:
    sides = [number(arg) if isinstance(arg, Tensor) else arg for arg in args[:2]]
    first, second = (TYPICAL if side is None else side for side in sides)
    is_complex = isinstance(first, complex) or isinstance(second, complex)
    return None if is_complex else bool(compare(first, second))


def _combined(name: str, given: list[bool | None]) -> bool | None:
    if name in SAME:
        return given[0]
    if name in NOT:
        return None if given[0] is None else not given[0]
    if name not in BOTH | EITHER:
        return None
    decisive = name in EITHER  # whatever the other is
    if decisive in given:
        return decisive
    return None if None in given or not given else not decisive


def chosen_of(args: Any, known: Callable[[Tensor], bool | None]) -> Any:
    """What `where` takes all elements from, None where that is not known."""
    truth = known(args[0]) if len(args) == 3 else None
    return None if truth is None else args[1 if truth else 2]
