"""What a comparison of counters claims: a limit on a peak, on a leak, or something else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from pytest_memreq.cli.adopting.names import Scope
from pytest_memreq.cli.adopting.terms import (
    Counter,
    Reading,
    Terms,
    UnclearError,
    reads_a_counter,
    terms_of,
)
from pytest_memreq.units import MAX_BYTES, UNIT_BYTES, parse_size

FLIPPED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.GtE,
    ast.LtE: ast.Gt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
}
UNITTEST: dict[str, type[ast.cmpop]] = {
    "assertLess": ast.Lt,
    "assertLessEqual": ast.LtE,
    "assertGreater": ast.Gt,
    "assertGreaterEqual": ast.GtE,
    "assertEqual": ast.Eq,
}
WRITTEN_UNITS = ("TiB", "TB", "GiB", "GB", "MiB", "MB", "KiB", "kB")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A limit on a counter's peak, or the reason why it is none, and what may serve instead."""

    node: ast.AST
    counter: Counter | None = None
    limit_bytes: int | None = None
    reason: str = ""
    instead: str = ""


def claims_in(statement: ast.stmt, scope: Scope) -> Iterator[Claim]:
    """Of an assertion, a call of unittest's, or an `if` that fails; of all else nothing."""
    if isinstance(statement, ast.Assert):
        yield from _of_test(statement.test, scope, is_true=True)
    elif isinstance(statement, ast.If) and _fails(statement.body, scope):
        yield from _of_test(statement.test, scope, is_true=False)
    elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        yield from _of_call(statement.value, scope)


def written(size_bytes: int) -> str:
    """A size as one would write it in a marker, exactly: `"12 GiB"` or `12345`."""
    for unit in WRITTEN_UNITS:
        amount = Fraction(size_bytes, UNIT_BYTES[unit])
        text = f"{float(amount):.2f}".rstrip("0").rstrip(".")
        if amount >= 1 and Fraction(text) == amount:
            assert parse_size(f"{text} {unit}") == size_bytes
            return f'"{text} {unit}"'
    return str(size_bytes)


def _of_call(call: ast.Call, scope: Scope) -> Iterator[Claim]:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    if name in UNITTEST and len(call.args) >= 2:
        yield from _of_comparison(call, call.args[0], UNITTEST[name], call.args[1], scope)
    elif name in ("assertTrue", "assertFalse") and call.args:
        yield from _of_test(call.args[0], scope, is_true=name == "assertTrue")


def _fails(body: list[ast.stmt], scope: Scope) -> bool:
    first = body[0]
    if isinstance(first, ast.Raise):
        return True
    is_call = isinstance(first, ast.Expr) and isinstance(first.value, ast.Call)
    return is_call and scope.dotted(first.value.func) == "pytest.fail"  # type: ignore[attr-defined]  # a call


def _of_test(test: ast.expr, scope: Scope, *, is_true: bool) -> Iterator[Claim]:
    """Of what an assertion says is so, or is not."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        yield from _of_test(test.operand, scope, is_true=not is_true)
    elif isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And if is_true else ast.Or):
        for part in test.values:
            yield from _of_test(part, scope, is_true=is_true)
    elif isinstance(test, ast.Compare) and (is_true or len(test.ops) == 1):
        sides = [test.left, *test.comparators]
        for left, operator, right in zip(sides, test.ops, sides[1:], strict=False):
            kind = type(operator) if is_true else FLIPPED.get(type(operator), ast.NotEq)
            yield from _of_comparison(test, left, kind, right, scope)
    elif reads_a_counter(test, scope):
        yield Claim(node=test, reason="it is no plain comparison")


def _of_comparison(
    node: ast.AST, left: ast.expr, operator: type[ast.cmpop], right: ast.expr, scope: Scope
) -> Iterator[Claim]:
    if not (reads_a_counter(left, scope) or reads_a_counter(right, scope)):
        return
    try:
        difference = terms_of(left, scope).plus(terms_of(right, scope).times(Fraction(-1)))
    except UnclearError as unclear:
        yield Claim(node=node, reason=f"{unclear} is not constant")
        return
    if operator in (ast.Gt, ast.GtE):
        difference = difference.times(Fraction(-1))
    if operator in (ast.Lt, ast.LtE, ast.Gt, ast.GtE):
        if all(factor < 0 for _, factor in difference.readings) and difference.constant <= 0:
            return  # no counter is below 0
        yield _at_most(node, difference, is_strict=operator in (ast.Lt, ast.Gt))
    elif operator is ast.Eq and _are_now(difference):
        yield _leak(node, difference)
    elif difference.readings:
        yield Claim(node=node, reason="it is no limit")


def _at_most(node: ast.AST, terms: Terms, *, is_strict: bool) -> Claim:
    """The sum is at most 0, or less than that."""
    if _are_now(terms):
        return _leak(node, terms)
    if len(terms.readings) != 1:
        return Claim(node=node, reason=_why_several(terms), instead=_instead_of_several(terms))
    ((reading, factor),) = terms.readings
    if factor < 0:
        return Claim(node=node, reason="it is a lower bound; a marker has upper limits only")
    if not reading.is_peak:
        held = f"memory_{reading.counter} is what is held at that line, not a peak"
        return Claim(node=node, reason=held)
    limit = -terms.constant / factor
    if terms.step and not is_strict:
        limit += terms.step / factor
    size_bytes = int(limit)
    if not 0 < size_bytes <= MAX_BYTES:
        return Claim(node=node, reason="its limit is no size")
    return Claim(node=node, counter=reading.counter, limit_bytes=size_bytes)


def _are_now(terms: Terms) -> bool:
    readings = [reading for reading, _ in terms.readings]
    counters = {reading.counter for reading in readings}
    is_balanced = sum(factor for _, factor in terms.readings) == 0
    return (
        len(readings) == 2
        and len(counters) == 1
        and is_balanced
        and not any(reading.is_peak for reading in readings)
    )


def _leak(node: ast.AST, terms: Terms) -> Claim:
    reason = "it compares what is held before and after, which is a leak"
    (_, factor) = max(terms.readings, key=lambda pair: _position(pair[0]))
    limit = int(-terms.constant / factor)
    if factor > 0 and 0 <= limit <= MAX_BYTES:
        size = written(limit) if limit else '"0 B"'
        return Claim(node=node, reason=reason, instead=f"@pytest.mark.max_gpu_leak({size})")
    return Claim(node=node, reason=reason, instead='@pytest.mark.max_gpu_leak("0 B")')


def _position(reading: Reading) -> tuple[int, int]:
    return reading.line, reading.column


def _why_several(terms: Terms) -> str:
    if not terms.readings:
        return "it compares a counter with itself"
    if all(reading.is_peak for reading, _ in terms.readings):
        return "it compares two peaks"
    return "it compares a peak with what is held"


def _instead_of_several(terms: Terms) -> str:
    if len(terms.readings) > 1 and all(reading.is_peak for reading, _ in terms.readings):
        return "memreq.compare(a, b)"
    peaks = [(reading, f) for reading, f in terms.readings if reading.is_peak and f > 0]
    if len(peaks) != 1 or len(terms.readings) != 2 or terms.constant >= 0:
        return ""
    ((reading, factor),) = peaks
    size = written(int(-terms.constant / factor))
    name = "" if reading.counter == "allocated" else f"{reading.counter}="
    return f"@pytest.mark.max_gpu_memory({name}{size}), which leaves out what others left"
