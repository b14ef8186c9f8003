"""Which rank of how many is simulated."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_memreq.errors import MemreqError


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """One rank of a number of them; MemreqError where there is no such rank."""

    world_size: int = 1
    rank: int = 0

    def __post_init__(self) -> None:
        if not _is_count(self.world_size) or self.world_size < 1:
            raise MemreqError(
                f"simulate: world_size={self.world_size!r} is no number of ranks; write 1 or more"
            )
        if not _is_count(self.rank) or not 0 <= self.rank < self.world_size:
            raise MemreqError(
                f"simulate: rank={self.rank!r} is none of {self.world_size} ranks; "
                f"write 0 to {self.world_size - 1}"
            )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def ranks_of(world_size: int | None, rank: int | None) -> Ranks | None:
    """The ranks asked for, None where none were; MemreqError for a rank without a world."""
    if world_size is None:
        if rank is not None:
            raise MemreqError(f"simulate: rank={rank!r} without world_size; say of how many ranks")
        return None
    return Ranks(world_size=world_size, rank=0 if rank is None else rank)
