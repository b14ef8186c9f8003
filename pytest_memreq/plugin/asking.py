"""How tests ask for something of ours: by a marker, or the `memreq` fixture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain

import pytest
from _pytest.nodes import Node

MARKER = "max_gpu_memory"
LEAK_MARKER = "max_gpu_leak"
FIXTURE = "memreq"
# As words: a module that imports from pytest_memreq does not ask for the fixture by that.
_NAMES = re.compile(rf"\b({MARKER}|{LEAK_MARKER}|{FIXTURE})\b".encode())


def asks_for_us(module: pytest.Module) -> bool:
    """True for a module of tests with one of our names in it, known before it is imported."""
    try:
        source = module.path.read_bytes()
    except OSError:
        return False  # pytest reports a module that cannot be read
    return _NAMES.search(source) is not None


def any_asks(items: Sequence[pytest.Item]) -> bool:
    """True where one asks for the fixture, or has a marker, whoever gave it that."""
    parents = {item.parent for item in items if item.parent is not None}
    above = {node for parent in parents for node in parent.iter_parents()}
    return any(map(_is_marked, chain(above, items))) or any(
        FIXTURE in getattr(item, "fixturenames", ()) for item in items
    )


def _is_marked(node: Node) -> bool:
    return any(mark.name in (MARKER, LEAK_MARKER) for mark in node.own_markers)
