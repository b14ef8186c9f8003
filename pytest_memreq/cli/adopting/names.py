"""What names in a file stand for: imported modules, and values assigned once or straight on."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

_BLOCKS = (ast.With, ast.AsyncWith)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@dataclass(frozen=True, slots=True)
class Assignment:
    """A value given to a name; None where it is not a plain expression.

    `is_straight` is True where it is always reached, outside of branches and loops.
    """

    line: int
    value: ast.expr | None
    is_straight: bool


@dataclass(frozen=True, slots=True)
class Scope:
    """Names of a function, its class and its module, the innermost first."""

    layers: tuple[dict[str, list[Assignment]], ...]
    attributes: dict[str, list[Assignment]] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)

    def dotted(self, node: ast.expr) -> str | None:
        """`torch.cuda.max_memory_allocated` for what the expression names, by its imports."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id not in self.modules:
            return None
        return ".".join([self.modules[node.id], *reversed(parts)])

    def value_of(self, node: ast.expr) -> ast.expr | None:
        """What was assigned to a name, or to an attribute of self, before it is used here."""
        found: list[Assignment] | None = None
        if isinstance(node, ast.Name):
            found = next((layer[node.id] for layer in self.layers if node.id in layer), None)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found = self.attributes.get(node.attr) if node.value.id in ("self", "cls") else None
        if not found:
            return None
        if len(found) == 1:
            return found[0].value
        before = [each for each in found if each.line < node.lineno]
        if not before or not all(each.is_straight for each in found):
            return None
        return before[-1].value


def imports_of(nodes: Iterable[ast.AST]) -> dict[str, str]:
    """Local names to the dotted names that they were imported as."""
    names: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                whole = alias.name if alias.asname else alias.name.partition(".")[0]
                names[alias.asname or whole] = whole
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def assignments_of(body: Iterable[ast.stmt], *, with_blocks: bool) -> dict[str, list[Assignment]]:
    """Assignments to plain names, in order; within branches and blocks only if `with_blocks`."""
    found: dict[str, list[Assignment]] = {}
    for name, assignment in _assigned(body, is_straight=True, with_blocks=with_blocks):
        found.setdefault(name, []).append(assignment)
    return found


def parameters_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> dict[str, list[Assignment]]:
    """Its parameters, whose values are not known."""
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    given = [arg for arg in (arguments.vararg, arguments.kwarg) if arg]
    return {arg.arg: [Assignment(function.lineno, None, False)] for arg in (*named, *given)}


def _assigned(
    body: Iterable[ast.stmt], *, is_straight: bool, with_blocks: bool
) -> Iterator[tuple[str, Assignment]]:
    for statement in body:
        yield from _of_statement(statement, is_straight)
        if not with_blocks or isinstance(statement, (*_FUNCTIONS, ast.ClassDef)):
            continue
        straight = is_straight and isinstance(statement, _BLOCKS)
        for name in ("body", "orelse", "finalbody"):
            inner = getattr(statement, name, [])
            yield from _assigned(inner, is_straight=straight, with_blocks=True)
        for handler in getattr(statement, "handlers", []):
            yield from _assigned(handler.body, is_straight=False, with_blocks=True)


def _of_statement(statement: ast.stmt, is_straight: bool) -> Iterator[tuple[str, Assignment]]:
    """What a statement itself assigns, not what the statements within it do."""
    line = statement.lineno
    if isinstance(statement, ast.Assign):
        for target in statement.targets:
            yield from _to_target(target, statement.value, line, is_straight)
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
        yield from _to_target(statement.target, statement.value, line, is_straight)
    elif isinstance(statement, (ast.AugAssign, ast.For, ast.AsyncFor)):
        yield from _to_target(statement.target, None, line, is_straight)
    for child in ast.iter_child_nodes(statement):
        if isinstance(child, ast.expr):
            yield from _walrus(child, is_straight)
        elif isinstance(child, ast.withitem) and child.optional_vars is not None:
            yield from _to_target(child.optional_vars, None, line, is_straight)


def _to_target(
    target: ast.expr, value: ast.expr | None, line: int, is_straight: bool
) -> Iterator[tuple[str, Assignment]]:
    if isinstance(target, ast.Name):
        yield target.id, Assignment(line, value, is_straight)
        return
    targets, values = getattr(target, "elts", []), getattr(value, "elts", [])
    known = values if len(values) == len(targets) else [None] * len(targets)
    for part, given in zip(targets, known, strict=True):
        yield from _to_target(part, given, line, is_straight)


def _walrus(expression: ast.expr, is_straight: bool) -> Iterator[tuple[str, Assignment]]:
    for node in ast.walk(expression):
        if isinstance(node, ast.NamedExpr):
            yield node.target.id, Assignment(node.lineno - 1, node.value, is_straight)
