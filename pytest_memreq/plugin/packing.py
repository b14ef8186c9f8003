"""In a worker of pytest-xdist: a test begins once there is room for its budget on its card.

It waits before anything else of the test does anything, so that no timer of others' runs.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass

import pytest

from pytest_memreq.errors import DeviceLostError, MemreqError
from pytest_memreq.packing.ledger import Claim, Sizes
from pytest_memreq.packing.rooms import Room
from pytest_memreq.plugin.book import Book
from pytest_memreq.plugin.cards import Place
from pytest_memreq.plugin.checks import CHECK
from pytest_memreq.plugin.housing import NO_ROOM, ROOM, Housing
from pytest_memreq.plugin.meters import Meters
from pytest_memreq.plugin.needs import Needs
from pytest_memreq.plugin.purpose import Original
from pytest_memreq.plugin.queueing import wait_for_room
from pytest_memreq.plugin.wire import attach_rooms


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """What a test has of each card, since when, and how long it waited for that."""

    sizes: Sizes
    begun_seconds: float
    waited_seconds: float

    def rooms(self) -> list[Room]:
        """As the report has them, until now."""
        now = max(time.time(), self.begun_seconds)  # the clock may have been set back
        return [
            Room(
                card=card,
                bytes=size,
                waited_seconds=self.waited_seconds,
                begun_seconds=self.begun_seconds,
                ended_seconds=now,
            )
            for card, size in sorted(self.sizes.items())
        ]


class Packing:
    """Takes room for each test of this worker that is measured, and gives it back."""

    def __init__(self, place: Place, needs: Needs, meters: Meters, timeout_seconds: int) -> None:
        self._place = place
        self._needs = needs
        self._meters = meters
        self._timeout_seconds = timeout_seconds
        self._original = Original()
        self._book: Book | None = None
        self._is_busy = False
        self._stay: Stay | None = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Without a checked test, none is to cost anything."""
        if not any(CHECK in item.stash for item in session.items):
            session.config.pluginmanager.unregister(self)
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Once for a test, however often it is run again within it."""
        check = item.stash.get(CHECK, None)
        is_ours = check is not None and check.is_judged and not self._is_busy
        if not (is_ours and self._original.is_here and self._needs.are_known):
            return (yield)
        self._is_busy = True
        try:
            self._stay = self._housed(item)
            return (yield)
        finally:
            if self._original.is_here and ROOM in item.stash:
                self._settle(item.nodeid)
            self._is_busy, self._stay = False, None

    @pytest.hookimpl(tryfirst=True)  # before it is sent to the controller
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """The last report of a test tells what room it had, and how long."""
        if report.when == "teardown" and self._stay is not None:
            attach_rooms(report, self._stay.rooms())

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """pytest-xdist keeps the process until all others have come to their end too."""
        if self._original.is_here:
            self._settle("the last test")

    def _housed(self, item: pytest.Item) -> Stay | None:
        """Once there is room for the test; None where there is none."""
        begun = time.monotonic()
        try:
            sizes = self._needs.of(item)
            if sizes:
                item.stash[ROOM] = self._take(sizes)
        except MemreqError as error:
            item.stash[NO_ROOM] = str(error)
            return None
        waited = time.monotonic() - begun
        sizes = sizes or dict.fromkeys(self._needs.capacities, 0)
        return Stay(sizes=sizes, begun_seconds=time.time(), waited_seconds=waited)

    def _take(self, sizes: Sizes) -> Housing:
        if self._book is None:
            self._book = Book(self._place.directory)
        claim = Claim(held=self._needs.present(), wanted=sizes, capacities=self._needs.capacities)
        wait_for_room(self._book, claim, self._timeout_seconds)
        return Housing(path=self._book.path, slot=self._book.slot, visible=self._place.seen.all)

    def _settle(self, where: str) -> None:
        """What stays in the process, of fixtures and outside of the allocator, goes on to count."""
        if self._book is None or self._meters.lost:
            return
        try:
            self._needs.settle()
            claim = Claim(held=self._needs.present(), capacities=self._needs.capacities)
            self._book.write(claim)
        except DeviceLostError as error:
            self._meters.lost = f"{error} (after {where})"
        except MemreqError:
            return  # the claim stays as it was, and the next test finds out
