"""The tests of a file, what they claim about memory, and the marker that says the same."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pytest_memreq.cli.adopting.claims import Claim, claims_in, written
from pytest_memreq.cli.adopting.names import (
    Assignment,
    Scope,
    assignments_of,
    imports_of,
    parameters_of,
)

MARKER = "max_gpu_memory"
Function = ast.FunctionDef | ast.AsyncFunctionDef
ORDER = ("allocated", "requested", "reserved")
MARKED = f"the test has {MARKER} already"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A claim about memory: where, in which test, and what is to become of it.

    `line` is that of the claim. `marker` is the marker of the test, if the claim went into it;
    else `reason` says why it did not, and `instead` what may serve; `is_done` is True for one that
    needs nothing more.
    """

    line: int
    test: str
    said: str
    marker: str = ""
    reason: str = ""
    instead: str = ""
    is_done: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Marking:
    """A marker to be put above a test, before line `line` (from 1) of the file."""

    line: int
    test: str
    marker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was found in a file, and the markers for it."""

    found: tuple[Found, ...] = ()
    markings: tuple[Marking, ...] = ()


def read_tests(source: bytes) -> Reading:
    """The claims of a file, in order. Raises SyntaxError, ValueError or RecursionError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes in the user's text
        tree = ast.parse(source)
    found: list[Found] = []
    markings: list[Marking] = []
    for owner in _owners(tree):
        reading = _read_owner(owner)
        found += reading.found
        markings += reading.markings
    return Reading(found=tuple(sorted(found, key=lambda f: f.line)), markings=tuple(markings))


@dataclass(frozen=True, slots=True)
class _Owner:
    """A function with its class, or what is outside of all functions."""

    name: str
    body: list[ast.stmt]
    scope: Scope
    function: Function | None = None
    is_marked: bool = False

    @property
    def is_test(self) -> bool:
        return self.function is not None and self.function.name.startswith("test")


def _owners(tree: ast.Module) -> Iterator[_Owner]:
    names = imports_of(ast.walk(tree))
    layer = assignments_of(tree.body, with_blocks=True)
    marks = [each.value for each in layer.get("pytestmark", []) if each.value is not None]
    is_marked = any(_names_marker(mark) for mark in marks)
    yield _Owner("", [s for s in tree.body if not _is_definition(s)], Scope((layer,), {}, names))
    for statement in tree.body:
        if isinstance(statement, Function):
            yield _of_function(statement, "", Scope((layer,), {}, names), is_marked)
        elif isinstance(statement, ast.ClassDef):
            yield from _of_class(statement, "", Scope((layer,), {}, names), is_marked)


def _of_class(node: ast.ClassDef, prefix: str, outer: Scope, is_marked: bool) -> Iterator[_Owner]:
    attributes = assignments_of(node.body, with_blocks=False)
    for method in node.body:
        if isinstance(method, Function):
            for name, assigned in _attributes_of_self(method).items():
                attributes.setdefault(name, []).extend(assigned)
    marks = [each.value for each in attributes.get("pytestmark", []) if each.value is not None]
    marked = is_marked or any(map(_names_marker, [*node.decorator_list, *marks]))
    scope = Scope(outer.layers, attributes, outer.modules)
    name = f"{prefix}{node.name}::"
    for statement in node.body:
        if isinstance(statement, Function):
            yield _of_function(statement, name, scope, marked)
        elif isinstance(statement, ast.ClassDef):
            yield from _of_class(statement, name, outer, marked)


def _attributes_of_self(method: Function) -> dict[str, list[Assignment]]:
    """What a method gives to attributes, of self or of anything else with one of that name."""
    found: dict[str, list[Assignment]] = {}
    for node in ast.walk(method):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Attribute):
                    found.setdefault(target.attr, []).append(
                        Assignment(node.lineno, node.value, False)
                    )
    return found


def _of_function(function: Function, prefix: str, outer: Scope, is_marked: bool) -> _Owner:
    local = {**parameters_of(function), **assignments_of(function.body, with_blocks=True)}
    return _Owner(
        name=f"{prefix}{function.name}",
        body=function.body,
        scope=Scope((local, *outer.layers), outer.attributes, outer.modules),
        function=function,
        is_marked=is_marked or any(map(_names_marker, function.decorator_list)),
    )


def _names_marker(node: ast.expr) -> bool:
    return any(isinstance(n, ast.Attribute) and n.attr == MARKER for n in ast.walk(node))


def _read_owner(owner: _Owner) -> Reading:
    claims = [claim for part in _statements(owner.body) for claim in claims_in(part, owner.scope)]
    marker = "" if owner.is_marked or not owner.is_test else _marker_of(claims)
    found = tuple(_found(claim, owner, marker, claims) for claim in claims)
    if not marker or owner.function is None:
        return Reading(found=found, markings=())
    first = min([owner.function, *owner.function.decorator_list], key=lambda node: node.lineno)
    marking = Marking(line=first.lineno, test=owner.name, marker=marker)
    return Reading(found=found, markings=(marking,))


def _found(claim: Claim, owner: _Owner, marker: str, claims: list[Claim]) -> Found:
    line = getattr(claim.node, "lineno", 0)
    said = ast.unparse(claim.node)
    reason = claim.reason or _why_not(claim, owner, claims)
    if reason:
        return Found(
            line=line,
            test=owner.name,
            said=said,
            reason=reason,
            instead=claim.instead,
            is_done=reason == MARKED,
        )
    return Found(line=line, test=owner.name, said=said, marker=marker)


def _why_not(claim: Claim, owner: _Owner, claims: list[Claim]) -> str:
    if not owner.is_test:
        return "it is in no test; mark the tests that come here"
    if owner.is_marked:
        return MARKED
    if len(_limits(claims).get(claim.counter or "", ())) > 1:
        return "one of several limits; a marker is for all of the test, memreq.measure for parts"
    return ""


def _marker_of(claims: Iterable[Claim]) -> str:
    """The marker for those counters that have one limit; "" where there is none."""
    limits = {counter: sizes for counter, sizes in _limits(claims).items() if len(sizes) == 1}
    arguments = [
        f"{'' if counter == 'allocated' else f'{counter}='}{written(*limits[counter])}"
        for counter in ORDER
        if counter in limits
    ]
    return f"mark.{MARKER}({', '.join(arguments)})" if arguments else ""


def _limits(claims: Iterable[Claim]) -> dict[str, set[int]]:
    limits: dict[str, set[int]] = {}
    for claim in claims:
        if claim.counter is not None and claim.limit_bytes is not None:
            limits.setdefault(claim.counter, set()).add(claim.limit_bytes)
    return limits


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """All statements within, those of nested functions too."""
    for statement in body:
        yield from (node for node in ast.walk(statement) if isinstance(node, ast.stmt))


def _is_definition(statement: ast.stmt) -> bool:
    return isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
