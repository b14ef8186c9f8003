"""Which tests a glob of node ids means."""

from __future__ import annotations

from fnmatch import fnmatchcase


def matches(nodeid: str, glob: str) -> bool:
    """True for the node id itself, brackets and all, and for what the glob matches."""
    return nodeid == glob or fnmatchcase(nodeid, glob)
