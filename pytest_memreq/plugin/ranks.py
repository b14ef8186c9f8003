"""The ranks of a run, as torchrun and others that start them say: read once, before any test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_memreq.errors import MemreqError

RANK = "RANK"
WORLD_SIZE = "WORLD_SIZE"
MOST = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """This process's rank, and of how many; a process by itself is the only one.

    `problem` says what is wrong with the variables, where neither can be known. It ends a run that
    checks something, and is nothing to any other.
    """

    rank: int = 0
    world_size: int = 1
    problem: str = ""

    @property
    def is_writer(self) -> bool:
        """True for the one process that writes files which all share."""
        return self.rank == 0


ALONE = Ranks()


def ranks_of(variables: Mapping[str, str]) -> Ranks:
    """Those of the environment's variables."""
    try:
        return _ranks_of(variables)
    except MemreqError as error:
        return Ranks(problem=str(error))


def _ranks_of(variables: Mapping[str, str]) -> Ranks:
    world_size = _number(variables, WORLD_SIZE, 1, least=1)
    rank = _number(variables, RANK, 0, least=0)
    # It would wait for others that may never come, and others for it.
    if world_size > 1 and not variables.get(RANK, "").strip():
        raise MemreqError(
            f"{WORLD_SIZE}={world_size}: no {RANK} says which of them this process is; torchrun "
            "sets both, and where no ranks are started both are to be unset"
        )
    if rank >= world_size > 1:
        raise MemreqError(
            f"{RANK}={rank}: is none of the ranks of {WORLD_SIZE}={world_size}; "
            f"write 0 to {world_size - 1}"
        )
    return Ranks(rank=rank, world_size=world_size)


def _number(variables: Mapping[str, str], name: str, default: int, *, least: int) -> int:
    given = variables.get(name, "").strip()
    if not given:
        return default
    if given.isascii() and given.isdecimal() and len(given) <= len(str(MOST)):
        number = int(given)
        if least <= number <= MOST:
            return number
    raise MemreqError(
        f"{name}={given[:40]!a}: is not a number from {least} to {MOST}; torchrun sets it, "
        "and where no ranks are started it is to be unset"
    )
