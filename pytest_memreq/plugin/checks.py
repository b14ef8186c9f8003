"""Which tests are checked, and against what: from markers, globs and defaults."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import pytest

from pytest_memreq.errors import MemreqError
from pytest_memreq.gate.budget import NO_BUDGET, Budget, parse_marker
from pytest_memreq.gate.globs import matches
from pytest_memreq.gate.leak import LeakLimit, parse_leak
from pytest_memreq.plugin.asking import FIXTURE, LEAK_MARKER, MARKER
from pytest_memreq.plugin.config import Settings
from pytest_memreq.simulate.cards import find_card


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What is to happen to one test.

    Judged ones get a verdict, others only the device. Required ones must use the device: a budget
    was written for them. Bystanders are not ours, but their module saw the pretended card while it
    was imported.
    """

    budget: Budget = NO_BUDGET
    leak: LeakLimit | None = None
    is_judged: bool = False
    is_required: bool = False
    is_bystander: bool = False


CHECK = pytest.StashKey[Check]()
SAW_PRETENCE = pytest.StashKey[bool]()


def check_of(item: pytest.Item, settings: Settings) -> Check | None:
    """The check of a test, None for one that is none of ours. Raises MemreqError for a bad marker.

    The nearest marker wins each metric, then the first glob that matches, then the default.
    """
    # Keywords have the names of all markers, and more; looking there first is half as dear.
    keywords = item.keywords
    markers = _budgets_of(item) if MARKER in keywords else []
    leak_limit = _leak_of(item) if LEAK_MARKER in keywords else None
    globs = [budget for glob, budget in settings.budgets if matches(item.nodeid, glob)]
    if markers or globs or leak_limit or settings.all:
        budget = reduce(Budget.over, [*markers, *globs], NO_BUDGET)
        return Check(
            budget=budget.over(settings.budget) if budget.is_empty else budget,
            leak=leak_limit,
            is_judged=True,
            is_required=bool(markers or globs or leak_limit),
        )
    if FIXTURE in getattr(item, "fixturenames", ()):
        return Check()
    module = item.getparent(pytest.Module)
    if module is not None and module.stash.get(SAW_PRETENCE, False):
        return Check(is_bystander=True)
    return None


def _budgets_of(item: pytest.Item) -> list[Budget]:
    where = f"{item.nodeid}: {MARKER}"
    return [_budget_of(marker, where) for marker in item.iter_markers(MARKER)]


def _leak_of(item: pytest.Item) -> LeakLimit | None:
    leak = item.get_closest_marker(LEAK_MARKER)
    if leak is None:
        return None
    return parse_leak(leak.args, leak.kwargs, f"{item.nodeid}: {LEAK_MARKER}")


def _budget_of(marker: pytest.Mark, where: str) -> Budget:
    budget = parse_marker(marker.args, marker.kwargs, where=where)
    if budget.gpu is not None:
        try:
            find_card(budget.gpu)
        except MemreqError as error:
            raise MemreqError(f"{where}: {error}") from None
    return budget
