"""The parts of the plugin that a run has. What most runs do not need is imported where one does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from pytest_memreq.plugin.baselines import Baselines
from pytest_memreq.plugin.cards import place_of
from pytest_memreq.plugin.config import Settings, spreads_cards
from pytest_memreq.plugin.importing import Importing
from pytest_memreq.plugin.isolation import RELAY, relay_for
from pytest_memreq.plugin.purpose import has_workers
from pytest_memreq.plugin.ranks import ALONE, Ranks
from pytest_memreq.plugin.reporting import Reporting
from pytest_memreq.plugin.session import Session
from pytest_memreq.plugin.watching import HEARING, Hearing, Watching

Part = tuple[str, object]  # its name to pytest, and the plugin


def parts_of(
    config: pytest.Config, settings: Settings, baselines: Baselines | None, ranks: Ranks
) -> Iterator[Part]:
    """In the order in which they are registered.

    Raises MemreqError for a process that was given a task which it cannot read.
    """
    relay = relay_for(config)
    if relay is not None:
        yield RELAY, relay
    elif not hasattr(config, "workerinput"):
        yield from _of_whoever_reports(config, settings, baselines, ranks)
    if settings.mode == "off":
        return
    session = Session(config, settings, baselines)
    yield "memreq-session", session
    yield from _of_shared_cards(config, settings, session)
    if settings.mode != "measure":
        yield "memreq-importing", Importing(settings)


def _of_whoever_reports(
    config: pytest.Config, settings: Settings, baselines: Baselines | None, ranks: Ranks
) -> Iterator[Part]:
    is_shared = ranks.world_size > 1 and settings.mode != "off" and not has_workers(config)
    reported = settings if ranks.is_writer else replace(settings, report=False)
    reporting = Reporting(config, reported, baselines, ranks if is_shared else ALONE)
    yield "memreq-reporting", reporting
    if is_shared:
        yield _of_ranks(config, settings, reporting, ranks)
    yield "memreq-problems", reporting.problems
    yield HEARING, Hearing(reporting)
    if settings.report or is_shared:
        yield "memreq-watching", Watching(reporting)
    if has_workers(config):
        from pytest_memreq.plugin.workers import Workers

        yield "memreq-workers", Workers(config, settings, reporting)
    yield from _of_annotations(config, reported, reporting)
    if baselines is not None:
        from pytest_memreq.plugin.recording import Recording

        yield "memreq-recording", Recording(config, baselines, reporting)


def _of_ranks(
    config: pytest.Config, settings: Settings, reporting: Reporting, ranks: Ranks
) -> Part:
    from pytest_memreq.plugin.listening import Listening, Speaking

    if ranks.is_writer:
        return "memreq-listening", Listening(config, settings, reporting, ranks)
    return "memreq-speaking", Speaking(config, reporting, ranks)


def _of_annotations(
    config: pytest.Config, settings: Settings, reporting: Reporting
) -> Iterator[Part]:
    from pytest_memreq.plugin.annotating import annotating_for

    annotating = annotating_for(config, settings, reporting)
    if annotating is not None:
        yield "memreq-annotating", annotating


def _of_shared_cards(config: pytest.Config, settings: Settings, session: Session) -> Iterator[Part]:
    if not hasattr(config, "workerinput"):  # else the settings would be read once more for nothing
        return
    place = place_of(config, is_spread=spreads_cards(config, settings))
    if place is not None:
        from pytest_memreq.plugin.needs import Needs
        from pytest_memreq.plugin.packing import Packing

        needs = Needs(place, session.meters, session.owning)
        packing = Packing(place, needs, session.meters, settings.cards_timeout)
        yield "memreq-packing", packing
