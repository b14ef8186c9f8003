"""Whose memory it is: what fixtures, modules and tests have made is told apart where it is made.

What a fixture holds counts towards the tests that use it, whichever of them it was set up for, so
that a figure does not depend on the order of tests.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from importlib.machinery import ModuleSpec
from typing import Any

import pytest

from pytest_memreq.errors import DeviceLostError
from pytest_memreq.holdings import IMPORTS, THE_RUN, Held, Holdings, Owner, total_bytes
from pytest_memreq.plugin.config import Settings
from pytest_memreq.plugin.loading import imports_noticed
from pytest_memreq.plugin.meters import Meter, Meters


class Owning:
    """Keeps the holdings of each meter, and says who is at work: a test, a fixture, a module."""

    def __init__(self, meters: Meters, settings: Settings) -> None:
        self._meters = meters
        self._is_real = settings.mode != "simulate"
        self._at_work: Owner = IMPORTS
        self._is_looking = False
        self._is_needed = True  # as far as is known before collection is over
        self._meter: Meter | None = None  # of the checked test that is running
        self._holdings: dict[Meter, Holdings] = {}
        self._stamps: dict[Meter, tuple[int, int]] = {}
        self._own: frozenset[Owner] = frozenset()
        self._asked: dict[Owner, set[Owner]] = {}  # by a fixture, for fixtures
        self._alone = 0  # fixtures under way, within each other, that outlive their test

    def begin(self, *, has_checks: bool) -> None:
        """Tests are collected; without checks nobody will ask whose anything is."""
        self._is_needed = has_checks
        self._look_if_awake()
        self._at_work = THE_RUN

    def enter(self, item: pytest.Item, meter: Meter) -> None:
        """A checked test begins; what is new was left by whoever ran before."""
        self._meter = meter
        self._look(meter)
        self._at_work = _test(item)
        self._own = self._owners_for(item)
        self._set_aside(meter)

    def own_bytes(self, item: pytest.Item, meter: Meter) -> Mapping[int, int]:
        """What is there of a test's own before it begins, by device; as far as that is known."""
        self._look(meter)
        sizes: Counter[int] = Counter()
        for blocks in self._of(meter).held(self._owners_for(item)).own.values():
            for block in blocks:
                sizes[block.device] += block.block_bytes
        return sizes

    def _owners_for(self, item: pytest.Item) -> frozenset[Owner]:
        return self._with_asked(
            {IMPORTS, _test(item), *map(_module, item.listchain()), *map(_fixture, _known(item))}
        )

    def held(self, item: pytest.Item, meter: Meter) -> Callable[[], Held]:
        """What is alive now, by whether it counts towards the test, as far as it is known then."""
        self._look(meter)
        holdings = self._of(meter)

        def held() -> Held:
            self._own = self._with_asked({*self._own, *map(_fixture, fixtures_of(item))})
            return holdings.held(self._own)

        held()
        self._set_aside(meter)
        return held

    def leave(self, item: pytest.Item, meter: Meter) -> int | None:
        """The test and its fixtures are gone: the bytes that they left; None if not known."""
        meter.set_aside(())
        self._look(meter)
        self.forget()
        if meter.live() is None:
            return None
        return total_bytes(self._of(meter).of(_test(item)))

    def forget(self) -> None:
        """The test is over, and its device is not to be asked any more."""
        self._meter = None
        self._own = frozenset()

    def pass_by(self, item: pytest.Item) -> None:
        """A test ended that is not checked; it may have left something all the same."""
        meter = self._awake()
        if meter is not None:
            self._at_work = _test(item)
            self._look(meter)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """What is new after it is the fixture's, but for what fixtures within it took."""
        __tracebackhide__ = True
        self._note_what_is_asked(fixturedef, request)
        meter = None if self._meters.lost else self._meter or self._awake()
        if meter is None:
            return (yield)
        self._look(meter)
        outer, self._at_work = self._at_work, _fixture(fixturedef)
        with self._by_itself(meter, fixturedef):
            try:
                return (yield)
            finally:
                self._look(meter)
                self._at_work = outer

    @contextmanager
    def _by_itself(self, meter: Meter, fixturedef: pytest.FixtureDef[Any]) -> Iterator[None]:
        """What a fixture makes that outlives its test shares no segment with anything else.

        Else it would lie beside what happened to be there when it was first asked for. And where a
        test asks for it in its body, making it is in no peak: the next test finds it made.
        """
        if fixturedef.scope == "function" or self._meter is None:  # of no checked test
            yield
            return
        with meter.paused():
            meter.tidy()
            self._alone += 1
            try:
                self._set_aside(meter)
                yield
            finally:
                self._alone -= 1
                with suppress(DeviceLostError):  # the test finds out, and what was raised goes on
                    meter.tidy()
                    self._set_aside(meter)

    def _set_aside(self, meter: Meter) -> None:
        """What others hold; all that is there, while a fixture is made that outlives its test."""
        owners = self._of(meter).owners
        if self._alone:
            meter.set_aside(owners)
            return
        others = [block for block, owner in owners.items() if owner not in self._own]
        meter.watch(others)
        meter.set_aside(others)

    def _note_what_is_asked(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> None:
        """A fixture's own request says for what it asks, the names among its arguments too.

        Those that it holds on to are there for whoever uses it, whether they ask for them or not.
        """
        asked = self._asked.setdefault(_fixture(fixturedef), set())
        ask = request.getfixturevalue
        definitions = getattr(request, "_fixture_defs", {})

        def getfixturevalue(argname: str) -> Any:
            value = ask(argname)
            if argname in definitions:
                asked.add(_fixture(definitions[argname]))
            return value

        request.getfixturevalue = getfixturevalue  # type: ignore[method-assign]  # of this one alone

    def _with_asked(self, owners: Collection[Owner]) -> frozenset[Owner]:
        found, new = set(owners), set(owners)
        while new:
            new = {each for owner in new for each in self._asked.get(owner, ())} - found
            found |= new
        return frozenset(found)

    def _of(self, meter: Meter) -> Holdings:
        return self._holdings.get(meter, Holdings())

    def pytest_fixture_post_finalizer(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        """What outlives a fixture was left by the test that it was torn down in."""
        owner = _fixture(fixturedef)
        for meter, holdings in self._holdings.items():
            if holdings.of(owner):
                self._holdings[meter] = holdings.handed_over(owner, self._at_work)

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """What a module makes while it is imported is its own, but for what it imports itself."""
        with self.collecting(collector):
            return (yield)

    def collecting(self, collector: pytest.Collector) -> AbstractContextManager[None]:
        """Around the collection of a module, as of all else."""
        if not isinstance(collector, pytest.Module) or not self._is_real:
            return nullcontext()
        return imports_noticed(partial(self.importing, collector))

    def importing(self, collector: pytest.Module, spec: ModuleSpec) -> AbstractContextManager[None]:
        """Around the code of a module that is imported while one of tests is collected."""
        is_its_own = spec.origin == str(collector.path)
        return self._working(_module(collector) if is_its_own else IMPORTS)

    @contextmanager
    def _working(self, owner: Owner) -> Iterator[None]:
        """What is new within it is the owner's, and what was new before is whose it was."""
        self._look_if_awake()
        before, self._at_work = self._at_work, owner
        try:
            yield
        finally:
            self._look_if_awake()
            self._at_work = before

    def _look_if_awake(self) -> None:
        if self._is_looking:  # which imports what it needs
            return
        self._is_looking = True
        try:
            meter = self._awake()
            if meter is not None:
                self._look(meter)
        finally:
            self._is_looking = False

    def _awake(self) -> Meter | None:
        """The meter of the devices, if the process uses one already."""
        if not self._is_real or not self._is_needed or self._meters.lost:
            return None
        # Who has not imported torch holds nothing, nor who is just importing it.
        asked = getattr(sys.modules.get("torch.cuda"), "is_initialized", None)
        is_initialized = asked is not None and asked()
        return self._meters.measuring() if is_initialized or self._meters.has_looked else None

    def _look(self, meter: Meter) -> None:
        """What is new since the last look belongs to who is at work."""
        stamp = meter.stamp()
        if self._stamps.get(meter) == stamp:
            return
        self._stamps[meter] = stamp
        blocks = meter.live()
        if blocks is not None:
            self._holdings[meter] = self._of(meter).seen(blocks, self._at_work)


def fixtures_of(item: pytest.Item) -> Iterator[pytest.FixtureDef[Any]]:
    """The fixtures that a test has got so far, asked for in its body too, and those they override.

    pytest keeps them with the item's request, under names of its own.
    """
    request = getattr(item, "_request", None)
    for name, fixturedef in (getattr(request, "_fixture_defs", None) or {}).items():
        yield fixturedef
        if name in fixturedef.argnames:
            info = getattr(item, "_fixtureinfo", None)
            yield from getattr(info, "name2fixturedefs", {}).get(name, ())


def _known(item: pytest.Item) -> Iterator[pytest.FixtureDef[Any]]:
    """The fixtures that a test is known to ask for before it does."""
    definitions = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    for each in definitions.values():
        yield from each


def _fixture(fixturedef: pytest.FixtureDef[Any]) -> Owner:
    where = f" of {fixturedef.baseid}" if fixturedef.baseid else ""
    return Owner("fixture", f"{fixturedef.argname}{where}")


def _test(item: pytest.Item) -> Owner:
    return Owner("test", item.nodeid)


def _module(node: object) -> Owner:
    return Owner("module", getattr(node, "nodeid", ""))
