"""Which cards a worker of pytest-xdist sees: one of its own, or all.

Every program for cards heeds `CUDA_VISIBLE_DEVICES` when it first asks for them, so a worker has it
set before any of its modules are imported.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, MutableMapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

VARIABLES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
# The driver has a directory a card there, whatever the variables say.
OF_THE_DRIVER = Path("/proc/driver/nvidia/gpus")
INPUT = "memreq_rooms"


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
            names = [name.strip() for name in environment[variable].split(",")]
            return Seen(variable=variable, names=tuple(filter(None, names)))
    with contextlib.suppress(OSError):
        count = sum(1 for _ in OF_THE_DRIVER.iterdir())
        return Seen(names=tuple(map(str, range(count))))
    return Seen()


def input_for(directory: Path, seen: Seen) -> dict[str, Any]:
    """What the controller gives each worker."""
    return {"directory": str(directory), "seen": {**asdict(seen), "names": list(seen.names)}}


def place_of(config: object, *, is_spread: bool) -> Place | None:
    """That of this process, and from here on it sees no card but its own, if they are spread.

    None where there is no other worker to share cards with.
    """
    given = getattr(config, "workerinput", {})
    if (
        INPUT not in given
        or given["workercount"] < 2
        or not Path(given[INPUT]["directory"]).is_dir()
    ):
        return None
    raw = given[INPUT]
    seen = Seen(variable=raw["seen"]["variable"], names=tuple(raw["seen"]["names"]))
    card = None
    if is_spread and len(seen.names) > 1:
        card = _number_of(given["workerid"]) % len(seen.names)
        seen.narrow(os.environ, card)
    return Place(directory=Path(raw["directory"]), seen=seen, card=card)


def _number_of(worker: str) -> int:
    """Of `gw3` it is 3; pytest-xdist gives workers that it starts again new ones."""
    digits = worker.removeprefix("gw")
    return int(digits) if digits.isdecimal() else 0
