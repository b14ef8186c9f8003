"""An expression as a sum: a constant, and readings of torch's counters times factors."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from pytest_memreq.cli.adopting.names import Scope

Counter = Literal["requested", "allocated", "reserved"]
OWNERS = ("torch.cuda", "torch.accelerator", "torch.xpu")
# torch's functions: the counter, and whether it is its peak or what it is at that line.
FUNCTIONS: dict[str, tuple[Counter, bool]] = {
    "max_memory_allocated": ("allocated", True),
    "max_memory_reserved": ("reserved", True),
    "max_memory_cached": ("reserved", True),
    "memory_allocated": ("allocated", False),
    "memory_reserved": ("reserved", False),
    "memory_cached": ("reserved", False),
}
STATS = {
    f"{counter}_bytes.all.{kind}": (counter, kind == "peak")
    for counter in ("requested", "allocated", "reserved")
    for kind in ("peak", "current")
}
MOST_STEPS = 20
MOST_BITS = 256  # no size is larger, and 9**9**9 is not computed


@dataclass(frozen=True, slots=True)
class Reading:
    """One call of a counter."""

    counter: Counter
    is_peak: bool
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Terms:
    """`constant` plus each reading times its factor; `step` is what a floor division rounds to."""

    constant: Fraction = Fraction(0)
    readings: tuple[tuple[Reading, Fraction], ...] = ()
    step: Fraction = Fraction(0)

    def times(self, factor: Fraction) -> Terms:
        """All of it, multiplied."""
        scaled = tuple((reading, size * factor) for reading, size in self.readings)
        return Terms(self.constant * factor, scaled, self.step * abs(factor))

    def plus(self, other: Terms) -> Terms:
        """The sum; a reading that cancels out is gone."""
        sums: dict[Reading, Fraction] = {}
        for reading, size in (*self.readings, *other.readings):
            sums[reading] = sums.get(reading, Fraction(0)) + size
        left = tuple((reading, size) for reading, size in sums.items() if size)
        return Terms(self.constant + other.constant, left, self.step + other.step)


class UnclearError(Exception):
    """An expression that is no such sum; its text says of what part."""


def terms_of(node: ast.expr, scope: Scope, steps: int = MOST_STEPS) -> Terms:
    """The sum that an expression is. Raises UnclearError for anything else."""
    reading = _reading(node, scope)
    if reading is not None:
        return Terms(readings=((reading, Fraction(1)),))
    if isinstance(node, ast.Constant):
        return Terms(_number(node))
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATIONS:
        left, right = terms_of(node.left, scope, steps), terms_of(node.right, scope, steps)
        return OPERATIONS[type(node.op)](left, right, node)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return terms_of(node.operand, scope, steps).times(Fraction(-1))
    value = _stands_for(node, scope)
    if value is None or not steps:
        raise UnclearError(ast.unparse(node))
    return terms_of(value, scope, steps - 1)


def reads_a_counter(node: ast.AST, scope: Scope, steps: int = MOST_STEPS) -> bool:
    """True where a counter is read in it, or in what its names stand for."""
    for part in ast.walk(node):
        if not isinstance(part, ast.expr):
            continue
        if _reading(part, scope) is not None:
            return True
        value = scope.value_of(part) if isinstance(part, (ast.Name, ast.Attribute)) else None
        if value is not None and steps and reads_a_counter(value, scope, steps - 1):
            return True
    return False


def _reading(node: ast.expr, scope: Scope) -> Reading | None:
    if isinstance(node, ast.Call):
        owner, _, name = _plain(scope.dotted(node.func)).rpartition(".")
        found = FUNCTIONS.get(name) if owner in OWNERS else None
    elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Call):
        owner, _, name = _plain(scope.dotted(node.value.func)).rpartition(".")
        key = node.slice.value if isinstance(node.slice, ast.Constant) else None
        is_stats = owner in OWNERS and name == "memory_stats" and isinstance(key, str)
        found = STATS.get(str(key)) if is_stats else None  # type: ignore[assignment]  # its words
    else:
        return None
    return None if found is None else Reading(*found, node.lineno, node.col_offset)


def _plain(dotted: str | None) -> str:
    return (dotted or "").replace("torch.cuda.memory.", "torch.cuda.")


def _number(node: ast.Constant) -> Fraction:
    value = node.value
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise UnclearError(ast.unparse(node)[:60])
    if not abs(value) < 2**MOST_BITS:  # a float may be infinite
        raise UnclearError(ast.unparse(node)[:60])
    # As it is written: 2.2e9 is meant, not the nearest number in binary.
    return Fraction(repr(value)) if isinstance(value, float) else Fraction(value)


def _stands_for(node: ast.expr, scope: Scope) -> ast.expr | None:
    """The expression that a name, a walrus or a conversion of a number has the value of."""
    if isinstance(node, ast.NamedExpr):
        return node.value
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        is_conversion = node.func.id in ("int", "float") and len(node.args) == 1
        return node.args[0] if is_conversion else None
    return scope.value_of(node)


def _times(left: Terms, right: Terms, node: ast.BinOp) -> Terms:
    if left.readings and right.readings:
        raise UnclearError(ast.unparse(node))
    product = left.times(right.constant) if left.readings else right.times(left.constant)
    return _bounded(product, node)


def _over(left: Terms, right: Terms, node: ast.BinOp) -> Terms:
    if right.readings or not right.constant:
        raise UnclearError(ast.unparse(node))
    return _bounded(left.times(1 / right.constant), node)


def _floored(left: Terms, right: Terms, node: ast.BinOp) -> Terms:
    quotient = _over(left, right, node)
    if not quotient.readings:
        return Terms(Fraction(quotient.constant.__floor__()))
    return Terms(quotient.constant, quotient.readings, quotient.step + 1)


def _power(left: Terms, right: Terms, node: ast.BinOp) -> Terms:
    exponent = right.constant
    if left.readings or right.readings or exponent.denominator != 1 or not 0 <= exponent <= 80:
        raise UnclearError(ast.unparse(node))
    return _bounded(Terms(left.constant ** int(exponent)), node)


def _shifted(left: Terms, right: Terms, node: ast.BinOp) -> Terms:
    return _times(left, _power(Terms(Fraction(2)), right, node), node)


def _bounded(terms: Terms, node: ast.BinOp) -> Terms:
    numbers = (terms.constant, *(size for _, size in terms.readings))
    if any(max(n.numerator.bit_length(), n.denominator.bit_length()) > 4096 for n in numbers):
        raise UnclearError(ast.unparse(node)[:60])
    return terms


OPERATIONS: dict[type[ast.operator], Callable[[Terms, Terms, ast.BinOp], Terms]] = {
    ast.Add: lambda left, right, _: left.plus(right),
    ast.Sub: lambda left, right, _: left.plus(right.times(Fraction(-1))),
    ast.Mult: _times,
    ast.Div: _over,
    ast.FloorDiv: _floored,
    ast.Pow: _power,
    ast.LShift: _shifted,
}
