"""Whose memory it is: blocks in use on a device, and who each was first seen with.

A block counts towards the tests of its owner: a fixture's towards those that use the fixture,
whichever of them it was set up for; a module's towards the tests in it; what was made while other
modules were imported, towards all tests. All else was left by somebody else.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveBlock:
    """A block in use. `key` tells it from every other that is alive on any device."""

    key: Hashable
    block_bytes: int
    requested_bytes: int
    device: int = 0


@dataclass(frozen=True, slots=True)
class Owner:
    """Who made a block: a test or a module by its node id, a fixture by where it is defined."""

    kind: Literal["test", "fixture", "module", "import", "run"]
    name: str

    def __str__(self) -> str:
        return self.name if self.kind in ("test", "module") else f"{self.kind} {self.name}"


THE_RUN = Owner("run", "before its first checked test")
# What conftest files, plugins and helpers make while they are imported is there in every run.
IMPORTS = Owner("import", "of what tests share")


@dataclass(frozen=True, slots=True)
class Held:
    """What is alive before a test's call: what counts towards it, and what others left."""

    own: Mapping[Owner, tuple[LiveBlock, ...]] = field(default_factory=dict)
    others: Mapping[Owner, tuple[LiveBlock, ...]] = field(default_factory=dict)

    @property
    def others_blocks(self) -> tuple[LiveBlock, ...]:
        """What others left, in one."""
        return tuple(block for blocks in self.others.values() for block in blocks)

    @property
    def fixtures_bytes(self) -> int:
        """What the fixtures of the test hold, rounded to blocks."""
        mine = (blocks for owner, blocks in self.own.items() if owner.kind == "fixture")
        return sum(map(total_bytes, mine))

    def by_others(self) -> tuple[tuple[str, int], ...]:
        """(who, bytes rounded to blocks), the most first."""
        sums = [(str(owner), total_bytes(blocks)) for owner, blocks in self.others.items()]
        return tuple(sorted(sums, key=lambda pair: (-pair[1], pair[0])))


def nothing_held() -> Held:
    """Where nothing is alive, or nobody cares whose it is."""
    return Held()


@dataclass(frozen=True, slots=True)
class Holdings:
    """The blocks in use when it was last looked, each with its owner."""

    owners: Mapping[LiveBlock, Owner] = field(default_factory=dict)

    def seen(self, blocks: Iterable[LiveBlock], owner: Owner) -> Holdings:
        """What is new is the owner's; what is gone is nobody's."""
        return Holdings({block: self.owners.get(block, owner) for block in blocks})

    def handed_over(self, owner: Owner, to: Owner) -> Holdings:
        """All that one owner has is another's from now on."""
        return Holdings({b: to if o == owner else o for b, o in self.owners.items()})

    def of(self, owner: Owner) -> tuple[LiveBlock, ...]:
        """What one owner has."""
        return tuple(block for block, other in self.owners.items() if other == owner)

    def held(self, own: Collection[Owner]) -> Held:
        """What counts towards a test that these owners belong to, apart from the rest."""
        groups: dict[Owner, list[LiveBlock]] = {}
        for block, owner in self.owners.items():
            groups.setdefault(owner, []).append(block)
        return Held(
            own={o: tuple(blocks) for o, blocks in groups.items() if o in own},
            others={o: tuple(blocks) for o, blocks in groups.items() if o not in own},
        )


def total_bytes(blocks: Iterable[LiveBlock]) -> int:
    """Bytes of all, as `allocated` counts them."""
    return sum(block.block_bytes for block in blocks)
