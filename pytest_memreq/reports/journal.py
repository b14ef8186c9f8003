"""The journal of a run: a line of JSON an event, so that what was found out outlives the process.

The first line says the format, and of several ranks whose journal it is. A line is written at once;
the last may be torn, where the process was killed or the disk was full, and is then left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, get_args

from pytest_memreq.errors import MemreqError
from pytest_memreq.reports.gathering import (
    CutShort,
    Ended,
    Event,
    Finished,
    Housed,
    Judged,
    Left,
    Started,
)
from pytest_memreq.reports.reading import test_as_built
from pytest_memreq.results import RunStatus
from pytest_memreq.strict_json import build, check_format, parse, shown, to_text

NAME = "journal.jsonl"
OF_A_RANK = re.compile(r"journal-rank-([0-9]{1,10})\.jsonl")
FORMAT = 1
MOST_RANKS = 2**17  # more than any cluster has cards
KINDS: dict[str, type[Any]] = {
    "started": Started,
    "ended": Ended,
    "judged": Judged,
    "left": Left,
    "housed": Housed,
    "cut_short": CutShort,
    "finished": Finished,
}
NAMES = {kind: name for name, kind in KINDS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """The first line beside the format: whose journal it is."""

    rank: int = 0
    world_size: int = 1


ALONE = Heading()


def name_of(rank: int) -> str:
    """The file of a rank's journal; the first rank's is that of the run."""
    return NAME if rank == 0 else f"journal-rank-{rank}.jsonl"


def heading(whose: Heading = ALONE) -> str:
    """The first line."""
    return _line({"format": FORMAT, **asdict(whose)})


def heading_of(content: bytes, where: str) -> Heading:
    """What the first line says; raises MemreqError for one that says something else."""
    head, newline, _ = content.partition(b"\n")
    if not newline:
        return ALONE
    raw = parse(head, f"{where}: line 1")
    check_format(raw, FORMAT, f"{where}: line 1")
    heading: Heading = build(Heading, raw, f"{where}: line 1")
    if 0 <= heading.rank < heading.world_size <= MOST_RANKS:
        return heading
    raise MemreqError(
        f"{where}: line 1: rank {heading.rank} of {heading.world_size} is none of 1 to {MOST_RANKS}"
    )


def line_of(event: Event) -> str:
    """The event's line, its newline with it."""
    if isinstance(event, Judged):
        content = {"result": event.result.to_dict(), "environment": asdict(event.environment)}
        return _line({"judged": content})
    return _line({NAMES[type(event)]: asdict(event)})


def has_finished(end: bytes) -> bool:
    """True where a journal that ends so, in at least its last LAST_BYTES, lacks nothing."""
    return end[end[:-1].rfind(b"\n") + 1 :] in LAST_LINES


def events_of(content: bytes, where: str) -> Iterator[Event]:
    """The events in a journal; raises MemreqError, naming file and line, for what is none."""
    whole, newline, _ = content.rpartition(b"\n")
    if not newline:  # killed before there was a line
        return
    head, *lines = whole.split(b"\n")
    check_format(parse(head, f"{where}: line 1"), FORMAT, f"{where}: line 1")
    for number, line in enumerate(lines, 2):
        yield _event(line, f"{where}: line {number}")


def _event(line: bytes, where: str) -> Event:
    raw = parse(line, where)
    if len(raw) != 1 or (name := next(iter(raw))) not in KINDS:
        raise MemreqError(f"{where}: has {_keys(raw)}; right is one of {', '.join(KINDS)}")
    given = raw[name]
    if name == "judged" and isinstance(given, dict) and "result" in given:
        given = {**given, "result": test_as_built(given["result"], f"{where}: judged.result")}
    event: Event = build(KINDS[name], given, f"{where}: {name}")
    return event


def _keys(raw: dict[str, Any]) -> str:
    return ", ".join(map(shown, list(raw)[:3])) or "no key"


def _line(content: dict[str, Any]) -> str:
    return to_text(content, separators=(",", ":")) + "\n"


# The last lines of journals that are whole.
LAST_LINES = frozenset(line_of(Finished(status=s)).encode() for s in get_args(RunStatus))
LAST_BYTES = max(map(len, LAST_LINES))
