"""The results of a run from what it left in its report directory, whether or not it finished."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pytest_memreq.errors import MemreqError
from pytest_memreq.reports import journal
from pytest_memreq.reports.files import is_absent, is_directory, read_whole
from pytest_memreq.reports.gathering import gathered
from pytest_memreq.reports.ranks import RankPart, merge_ranks
from pytest_memreq.reports.reading import MAX_REPORT_BYTES, NAME, read_results
from pytest_memreq.results import Results

CUT_OFF = "its journal ends before its tests do"


def restored(directory: Path, *more: Path) -> Results:
    """What the run's JSON file says; of a run that did not finish, what its journal says.

    Journals of other ranks are taken from `more` directories as well, for ranks that share none.
    Raises MemreqError, in one line that begins with the path, where there is neither, and for what
    cannot be read.
    """
    directories = dict.fromkeys((directory, *more))
    others = [path for each in directories for path in journals_of_ranks(each)]
    report, log = directory / NAME, directory / journal.NAME
    if is_absent(report) and is_absent(log) and not others:
        raise MemreqError(f"{directory}: has neither {NAME} nor {journal.NAME}: no run reported")
    written = Results(status="incomplete") if is_absent(report) else read_results(report)
    if written.status == "complete":
        return written
    logs = [*([] if is_absent(log) else [log]), *others]
    return _joined(logs) if logs else written


def journals_of_ranks(directory: Path) -> list[Path]:
    """Those in a directory that are not the first rank's; raises MemreqError where it is none."""
    if not is_directory(directory):
        raise MemreqError(
            f"{directory}: is no directory of a report; pytest --memreq-report makes one"
        )
    try:
        names = [path.name for path in directory.iterdir()]
    except OSError as error:
        raise MemreqError(f"{directory}: cannot be read: {error.strerror or error}") from None
    return [directory / name for name in sorted(names) if journal.OF_A_RANK.fullmatch(name)]


def part_of(content: bytes, where: str, missing: str = CUT_OFF) -> tuple[RankPart, int]:
    """What a rank's journal says, and how many ranks there are; `missing` is why it has no end.

    Raises MemreqError, beginning with `where`, for what is no journal.
    """
    heading = journal.heading_of(content, where)
    results = gathered(journal.events_of(content, where))
    why = "" if journal.has_finished(content) else missing
    return RankPart(rank=heading.rank, results=results, missing=why), heading.world_size


def _joined(paths: Iterable[Path]) -> Results:
    """One run's, of however many ranks: what the first alone says is not all."""
    by_rank: dict[int, tuple[Path, RankPart]] = {}
    world_size = 1
    for path in paths:
        part, said = part_of(_content(path), str(path))
        if part.rank in by_rank:
            raise MemreqError(f"{path}: is of rank {part.rank}, as {by_rank[part.rank][0]} is")
        by_rank[part.rank], world_size = (path, part), max(world_size, said)
    parts = [part for _, part in by_rank.values()]
    return parts[0].results if world_size == 1 else merge_ranks(parts, world_size)


def _content(path: Path) -> bytes:
    return read_whole(path, MAX_REPORT_BYTES)
