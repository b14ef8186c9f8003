"""That a test has room on cards, for the processes that are started for it; or why it has none."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True, kw_only=True)
class Housing:
    """Where the claim is, and the variable by which a process sees all cards of the run."""

    path: Path
    slot: int
    visible: Mapping[str, str] = field(default_factory=dict)


ROOM = pytest.StashKey[Housing]()
NO_ROOM = pytest.StashKey[str]()


def keep(claim: str) -> None:
    """Keep a claim as long as this process lives, whatever becomes of the worker; see `told`."""
    from pytest_memreq.plugin.book import stand_for  # for few processes

    slot, number, path = claim.split(":", 2)
    with contextlib.suppress(OSError):  # the run is over
        stand_for(Path(path), int(slot), int(number))


def told(item: pytest.Item, number: int) -> str:
    """The test's claim for process `number` of those that run it, "" where it has none."""
    housing = item.stash.get(ROOM, None)
    return "" if housing is None else f"{housing.slot}:{number}:{housing.path}"


def all_cards(item: pytest.Item) -> Mapping[str, str]:
    """The variable by which all cards of the run are seen, where its worker sees but one."""
    housing = item.stash.get(ROOM, None)
    return {} if housing is None else housing.visible
