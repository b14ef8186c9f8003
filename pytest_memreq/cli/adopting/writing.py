"""Markers into a file: lines are put in, and every other byte stays as it is."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Sequence

from pytest_memreq.cli.adopting.reading import Marking

_LINES = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z")
NO_ROOM = "its lines are laid out in a way that leaves no room"
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class CannotWriteError(Exception):
    """The file is such that lines cannot be put in safely; its text says why."""


def with_markers(source: bytes, markings: Sequence[Marking]) -> bytes:
    """The file with its markers, and an import of pytest where it has none.

    Raises CannotWriteError where the result would not be the same program with markers.
    """
    tree = _parsed(source)
    pytest = _name_of_pytest(tree)
    lines = _LINES.findall(source)
    for marking in sorted(markings, key=lambda marking: -marking.line):
        text = f"@{pytest or 'pytest'}.{marking.marker}"
        _put(lines, marking.line, text)
    if pytest is None:
        _put(lines, _line_for_import(tree), "import pytest")
    written = b"".join(lines)
    _check(tree, written, len(markings), pytest)
    return written


def _put(lines: list[bytes], line: int, text: str) -> None:
    """Before a line, counted from 1, with its indentation and its end."""
    at = lines[line - 1] if line <= len(lines) else b""
    indentation = re.match(rb"[ \t\f]*", at.removeprefix(b"\xef\xbb\xbf"))
    end = re.search(rb"[\r\n]+\Z", at) or re.search(rb"[\r\n]+\Z", lines[0] if lines else b"")
    put = (indentation[0] if indentation else b"") + text.encode() + (end[0] if end else b"\n")
    if line == 1 and at.startswith(b"\xef\xbb\xbf"):
        lines[0] = at.removeprefix(b"\xef\xbb\xbf")
        put = b"\xef\xbb\xbf" + put
    lines.insert(line - 1, put)


def _parsed(source: bytes) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes in the user's text
        return ast.parse(source)


def _name_of_pytest(tree: ast.Module) -> str | None:
    """What the module calls pytest; None where it does not import it."""
    for statement in tree.body:
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                if alias.name == "pytest":
                    return alias.asname or "pytest"
    if any(name == "pytest" for name in _bound(tree.body)):
        raise CannotWriteError("the name pytest is something else there")
    return None


def _bound(body: Iterable[ast.stmt]) -> Iterable[str]:
    for statement in body:
        if isinstance(statement, (*_FUNCTIONS, ast.ClassDef)):
            yield statement.name
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
            elif isinstance(node, ast.alias):
                yield (node.asname or node.name).partition(".")[0]


def _line_for_import(tree: ast.Module) -> int:
    """Before the first statement that is neither the docstring nor of __future__."""
    for at, statement in enumerate(tree.body):
        is_docstring = at == 0 and isinstance(statement, ast.Expr)
        is_future = isinstance(statement, ast.ImportFrom) and statement.module == "__future__"
        if not is_docstring and not is_future:
            decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
            return min([statement.lineno, *(node.lineno for node in decorators)])
    return 1


def _check(tree: ast.Module, written: bytes, count: int, pytest: str | None) -> None:
    """Without what was put in, the program is the one that was there."""
    try:
        new = _parsed(written)
        compile(new, "<file>", "exec", dont_inherit=True)  # imports of __future__ come first
    except (SyntaxError, ValueError):
        raise CannotWriteError(NO_ROOM) from None
    is_the_same = ast.get_docstring(new) == ast.get_docstring(tree)
    if pytest is None:
        imports = [s for s in new.body if isinstance(s, ast.Import) and s.names[0].name == "pytest"]
        new.body.remove(imports[0])
    taken = 0
    for function, before in zip(_functions(new), _functions(tree), strict=False):
        if len(function.decorator_list) > len(before.decorator_list):
            del function.decorator_list[0]
            taken += 1
    if not is_the_same or taken != count or ast.dump(new) != ast.dump(tree):
        raise CannotWriteError(NO_ROOM)


def _functions(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS)]
