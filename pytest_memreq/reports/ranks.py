"""The results of ranks as those of one run: each test by the worst of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce

from pytest_memreq.reports.merging import common
from pytest_memreq.reports.worst import is_worse, weight
from pytest_memreq.requirement import Peak
from pytest_memreq.results import RankResult, Results, TestResult

NOT_RUN = "the test did not run there"


@dataclass(frozen=True, slots=True, kw_only=True)
class RankPart:
    """What one rank found out; `missing` says why that is not all, "" where it is."""

    rank: int
    results: Results
    missing: str = ""


def merge_ranks(parts: Iterable[RankPart], world_size: int) -> Results:
    """Each test by the worst of its ranks, with the table of them all.

    A rank that is missing, or did not run the test, makes it an `error` unless another says what is
    wrong. One on which the user skipped it does not count where another ran it.
    """
    by_rank = {part.rank: part for part in sorted(parts, key=lambda part: part.rank)}
    found: dict[str, dict[int, TestResult]] = {}
    for rank, part in by_rank.items():
        for test in part.results.tests:
            found.setdefault(test.nodeid, {})[rank] = test
    is_whole = len(by_rank) == world_size and not any(map(_is_short, by_rank.values()))
    running = {nodeid for part in by_rank.values() for nodeid in part.results.running}
    return Results(
        tests=tuple(_merged(found[nodeid], by_rank, world_size) for nodeid in sorted(found)),
        environment=common(part.results.environment for part in by_rank.values()),
        status="complete" if is_whole else "incomplete",
        running=tuple(sorted(running)),
    )


def _is_short(part: RankPart) -> bool:
    return bool(part.missing) or part.results.status == "incomplete"


def _merged(
    results: Mapping[int, TestResult], by_rank: Mapping[int, RankPart], world_size: int
) -> TestResult:
    """One test; its figures are those of the worst rank, but for the peak."""
    ran = {rank: test for rank, test in results.items() if test.cause != "skipped"} or results
    worst = max(ran, key=lambda rank: weight(ran[rank]))
    base, absent = ran[worst], tuple(_absent(results, by_rank, world_size))
    gains = base.verdict == "improved"
    rows = [*(_row(rank, test, gains=gains) for rank, test in results.items()), *absent]
    whole = replace(
        base,
        reason=_told(worst, world_size, base.reason),
        peak=reduce(Peak.larger, (test.peak for test in ran.values())),
        leaked_bytes=_largest(test.leaked_bytes for test in ran.values()),
        ranks=tuple(sorted(rows, key=lambda row: row.rank)),
    )
    if not absent:
        return whole
    failed = replace(whole, outcome="failed")  # nobody expects a rank to be missing
    if not is_worse("error", base.verdict):
        return failed
    reason = _told(absent[0].rank, world_size, absent[0].reason)
    return replace(failed, verdict="error", reason=reason, cause=None)


def _absent(
    results: Mapping[int, TestResult], by_rank: Mapping[int, RankPart], world_size: int
) -> Iterator[RankResult]:
    """A row for each rank that has no result of the test, and why."""
    nodeid = next(iter(results.values())).nodeid
    for rank in sorted(set(range(world_size)) - results.keys()):
        part = by_rank.get(rank, RankPart(rank=rank, results=Results(), missing="it left nothing"))
        while_it_ran = " while the test ran" if nodeid in part.results.running else ""
        why = f"{part.missing}{while_it_ran}" if part.missing else NOT_RUN
        yield RankResult(rank=rank, verdict="error", reason=why, outcome="failed")


def _row(rank: int, test: TestResult, *, gains: bool) -> RankResult:
    """The baseline is of the rank that needs most: that others need less is no gain by itself."""
    is_less = test.verdict == "improved" and not gains
    return RankResult(
        rank=rank,
        verdict="within" if is_less else test.verdict,
        reason="needs less than the worst rank" if is_less else test.reason,
        outcome=test.outcome,
        gpu=test.gpu,
        peak=test.peak,
        held_bytes=test.held_bytes,
        leaked_bytes=test.leaked_bytes,
    )


def _told(rank: int, world_size: int, reason: str) -> str:
    return f"rank {rank} of {world_size}: {reason}"


def _largest(sizes: Iterable[int | None]) -> int | None:
    return max((size for size in sizes if size is not None), default=None)
