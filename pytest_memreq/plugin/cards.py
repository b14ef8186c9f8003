"""Which cards a worker of pytest-xdist sees: one of its own, or all.

Every program for cards heeds `CUDA_VISIBLE_DEVICES` when it first asks for them, so a worker has it
set before any of its modules are imported.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pytest_memreq.packing.rooms import MOST_CARDS

VARIABLES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
# The driver has a directory a card there, whatever the variables say.
OF_THE_DRIVER = Path("/proc/driver/nvidia/gpus")
INPUT = "memreq_rooms"
CAN_LOCK = sys.platform != "win32"  # files, as POSIX has it


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The cards that a run sees, as the variable names them; none where that is not known."""

    variable: str = VARIABLES[0]
    names: tuple[str, ...] = ()

    @property
    def all(self) -> dict[str, str]:
        """The variable for a process that is to see all of them."""
        return {self.variable: ",".join(self.names)} if self.names else {}

    def narrow(self, environment: MutableMapping[str, str], card: int) -> None:
        """Let a process see that one alone."""
        environment[self.variable] = self.names[card]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a worker finds the others' claims, and which cards it has: its own, or None for all."""

    directory: Path
    seen: Seen
    card: int | None = None


def seen_cards(environment: Mapping[str, str]) -> Seen:
    """By the first variable that is set, else by the driver's list."""
    for variable in VARIABLES:
        if variable in environment:
            return Seen(variable=variable, names=_names(environment[variable]))
    with contextlib.suppress(OSError):
        count = sum(1 for _ in OF_THE_DRIVER.iterdir())
        return Seen(names=tuple(map(str, range(min(count, MOST_CARDS)))))
    return Seen()


def input_for(directory: Path, seen: Seen) -> dict[str, Any]:
    """What the controller gives each worker."""
    return {"directory": str(directory), "seen": {**asdict(seen), "names": list(seen.names)}}


def place_of(config: object, *, is_spread: bool) -> Place | None:
    """That of this process, and from here on it sees no card but its own, if they are spread.

    None where there is no other worker to share cards with.
    """
    given = getattr(config, "workerinput", {})
    if INPUT not in given or not Path(given[INPUT]["directory"]).is_dir():
        return None
    raw = given[INPUT]
    seen = Seen(variable=raw["seen"]["variable"], names=tuple(raw["seen"]["names"]))
    card = _given_by_others(seen)
    if is_spread and len(seen.names) > 1 and card is None and not _is_changed(seen):
        card = _number_of(given["workerid"]) % len(seen.names)
        seen.narrow(os.environ, card)
    return Place(directory=Path(raw["directory"]), seen=seen, card=card)


def _is_changed(seen: Seen) -> bool:
    """True where a conftest.py has given this worker other cards than the run has."""
    now = os.environ.get(seen.variable)
    return now is not None and _names(now) != seen.names


def _given_by_others(seen: Seen) -> int | None:
    """The one card of the run that a conftest.py has given this worker, None for all else."""
    names = _names(os.environ.get(seen.variable, ""))
    is_one = _is_changed(seen) and len(names) == 1 and names[0] in seen.names
    return seen.names.index(names[0]) if is_one else None


def _names(text: str) -> tuple[str, ...]:
    """At most as many as a record has places for: those behind them stay unused."""
    return tuple(filter(None, (name.strip() for name in text.split(","))))[:MOST_CARDS]


def _number_of(worker: str) -> int:
    """Of `gw3` it is 3; pytest-xdist gives workers that it starts again new ones."""
    digits = worker.removeprefix("gw")
    return int(digits) if digits.isdecimal() else 0
