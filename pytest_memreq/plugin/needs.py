"""What a test needs of which card: its limit, and what its process has there anyway."""

from __future__ import annotations

from collections import Counter

import pytest

from pytest_memreq.errors import MemreqError
from pytest_memreq.measure.backends import Backend
from pytest_memreq.packing.rooms import MOST_CARDS
from pytest_memreq.plugin.cards import Place
from pytest_memreq.plugin.checks import CHECK
from pytest_memreq.plugin.isolation import is_to_isolate
from pytest_memreq.plugin.meters import Meters
from pytest_memreq.plugin.on_ranks import is_for_ranks
from pytest_memreq.plugin.owning import Owning


class Needs:
    """Of the tests of one worker. A card's number is its place among those that the run sees."""

    def __init__(self, place: Place, meters: Meters, owning: Owning) -> None:
        self._place = place
        self._meters = meters
        self._owning = owning
        # Outside of the allocator, by device: it only grows, and the driver takes long to tell.
        self._outside_bytes: dict[int, int] = {}

    @property
    def are_known(self) -> bool:
        """False where nothing is measured, or a device does not tell how much it has."""
        backends = () if self._meters.lost else self._meters.backends()
        return 0 < len(backends) <= MOST_CARDS and all(
            each.capacity_bytes() is not None for each in backends
        )

    def number_of(self, backend: Backend) -> int:
        """The number of its card."""
        return backend.index if self._place.card is None else self._place.card

    @property
    def capacities(self) -> dict[int, int]:
        """Of the cards that this worker sees."""
        return {self.number_of(b): b.capacity_bytes() or 0 for b in self._meters.backends()}

    def present(self) -> dict[int, int]:
        """What the process has of each card now: segments, and what is outside of the allocator."""
        outside = self._outside_bytes
        return {self.number_of(b): _inside(b) + outside.get(b.index, 0) for b in self._used()}

    def settle(self) -> None:
        """After a test: give back what nobody else could use else. Raises DeviceLostError."""
        for backend in self._used():
            backend.synchronize()
            backend.release_unused()
            self._outside_bytes[backend.index] = backend.outside().bytes or 0

    def of(self, item: pytest.Item) -> dict[int, int]:
        """Bytes by card: all that the process, and those that it starts, will have there.

        Empty for a test without a limit. A limit is for each card that the test sees; beside it is
        what others left in the process. A limit that the card can grant takes no more than all.
        """
        capacities = self.capacities
        try:
            budget = item.stash[CHECK].budget.in_bytes(next(iter(capacities.values())))
        except MemreqError:  # a share of a card that is not known: the verdict says so
            return {}
        limit = budget.room_bytes()
        if limit is None:
            return {}
        limit_bytes, is_whole = limit
        outside = 0 if is_whole else max(self._outside_bytes.values(), default=0)
        beside, places = self._beside(item), self._places(item, budget.ranks)
        needs = {
            card: size + places[card] * (limit_bytes + outside)
            for card, size in {**dict.fromkeys(places, 0), **beside}.items()
        }
        granted = {c: max(size, limit_bytes * places[c]) for c, size in capacities.items()}
        return {card: min(size, granted.get(card, size)) for card, size in needs.items()}

    def _places(self, item: pytest.Item, ranks: int | None) -> Counter[int]:
        """How often the limit counts on each card: a rank has the card of its local number."""
        if not is_for_ranks(item, self._meters.ranks.world_size):
            return Counter(dict.fromkeys(self.capacities, 1))
        count = len(self._place.seen.names) or len(self._meters.backends())
        return Counter(rank % count for rank in range(ranks or 1))

    def _beside(self, item: pytest.Item) -> dict[int, int]:
        """What is in the process and in no limit of the test."""
        if is_to_isolate(item) or is_for_ranks(item, self._meters.ranks.world_size):
            return self.present()
        meter = self._meters.measuring()
        assert meter is not None  # there are devices
        own = self._owning.own_bytes(item, meter)
        return {self.number_of(b): max(0, _inside(b) - own.get(b.index, 0)) for b in self._used()}

    def _used(self) -> list[Backend]:
        return [each for each in self._meters.backends() if each.allocation_count()]


def _inside(backend: Backend) -> int:
    reserved = backend.reserved_bytes()
    return backend.allocated_bytes() if reserved is None else reserved
