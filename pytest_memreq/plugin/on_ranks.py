"""`ranks=2`: a test on several ranks of this machine, a pytest each, where torchrun starts none."""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_memreq.errors import MemreqError
from pytest_memreq.plugin.checks import CHECK
from pytest_memreq.plugin.housing import NO_ROOM, all_cards
from pytest_memreq.plugin.isolation import RELAY, Child, log, start
from pytest_memreq.plugin.wire import attach, detach
from pytest_memreq.reports.ranks import RankPart, merge_ranks
from pytest_memreq.reports.worst import weight
from pytest_memreq.results import Results

HERE = "127.0.0.1"
LOOK_SECONDS = 0.05
# A rank waits for one that has failed as long as its backend does: minutes. torchrun does not wait.
GRACE_SECONDS = 10.0
BY_US = "it waited for a rank that had ended, and was stopped"
PHASES = ("setup", "call", "teardown")


def is_for_ranks(item: pytest.Item, world_size: int) -> bool:
    """True for a test that asks for ranks, in a process that is the only one."""
    check = item.stash.get(CHECK, None)
    is_asked = check is not None and check.budget.ranks is not None and NO_ROOM not in item.stash
    return is_asked and world_size == 1 and not item.config.pluginmanager.hasplugin(RELAY)


def check_ranks(ranks: int | None, world_size: int) -> None:
    """Raise MemreqError where a test that is for so many ranks is started on others."""
    if ranks not in (None, world_size):
        raise MemreqError(f"the test is for {ranks} ranks, and this run has {world_size}")


def run_on_ranks(item: pytest.Item) -> None:
    """Run the test on all its ranks, and report the worst of them here."""
    count = item.stash[CHECK].budget.ranks
    assert count is not None  # as `is_for_ranks` asks
    with tempfile.TemporaryDirectory(prefix="memreq-") as directory, ExitStack() as stack:
        children = [
            stack.enter_context(start(item, Path(directory, str(rank)), rank, **variables))
            for rank, variables in enumerate(_variables(count, all_cards(item)))
        ]
        stopped = _waited(children)
        reports = [child.reports(item) for child in children]
    parts = [_part(rank, () if rank in stopped else each) for rank, each in enumerate(reports)]
    log(item, _joined([reports[part.rank] for part in sorted(parts, key=_order)], parts))


def _variables(count: int, cards: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """What torchrun would set, and by which cards are seen, where the worker sees but one."""
    with socket.socket() as free:
        free.bind((HERE, 0))
        port = free.getsockname()[1]
    for rank in range(count):
        yield {
            **cards,
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(count),
            "LOCAL_WORLD_SIZE": str(count),
            "MASTER_ADDR": HERE,
            "MASTER_PORT": str(port),
        }


def _waited(children: Sequence[Child]) -> frozenset[int]:
    """Those that had to be stopped, once all have ended."""
    failed_at: float | None = None
    stopped: set[int] = set()
    while any(child.status is None for child in children):
        if failed_at is None and any(child.status for child in children):
            failed_at = time.monotonic()
        if failed_at is not None and time.monotonic() - failed_at > GRACE_SECONDS:
            stopped |= {rank for rank, child in enumerate(children) if child.stop()}
        time.sleep(LOOK_SECONDS)
    return frozenset(stopped)


def _part(rank: int, reports: Sequence[pytest.TestReport]) -> RankPart:
    brought = next((each for report in reports if (each := detach(report)) is not None), None)
    if brought is None:
        return RankPart(rank=rank, results=Results(status="incomplete"), missing=BY_US)
    result, environment = brought
    told = replace(result, gpu=environment.gpu)
    return RankPart(rank=rank, results=Results(tests=(told,), environment=environment))


def _order(part: RankPart) -> tuple[int, ...]:
    """The rank that decides comes first, those that have no result last."""
    worst = [-each for test in part.results.tests for each in weight(test)]
    return not worst, *worst


def _joined(
    reports: Sequence[Sequence[pytest.TestReport]], parts: Sequence[RankPart]
) -> list[pytest.TestReport]:
    """Of each phase the first report on which it failed, else the first; the worst rank's lead."""
    shown = [_shown([r for each in reports for r in each if r.when == phase]) for phase in PHASES]
    joined = [report for report in shown if report is not None]
    merged = merge_ranks(parts, len(parts))
    if merged.tests:
        bearer = next((r for r in joined if r.when == "call"), joined[0])
        # The run itself has one rank; the test says how many it had.
        environment = replace(merged.environment, world_size=1)
        attach(bearer, merged.tests[0], environment)
        if merged.tests[0].verdict == "error" and bearer.passed:
            bearer.outcome, bearer.longrepr = "failed", f"memreq: {merged.tests[0].reason}"
    return joined


def _shown(reports: Sequence[pytest.TestReport]) -> pytest.TestReport | None:
    failed = [report for report in reports if report.failed]
    passed = [report for report in reports if report.passed]
    return next(iter([*failed, *passed, *reports]), None)
