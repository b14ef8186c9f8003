"""The journal of a run: a line of JSON an event, so that what was found out outlives the process.

The first line says the format. A line is written at once; the last may be torn, where the process
was killed or the disk was full, and is then left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from pytest_memreq.errors import MemreqError
from pytest_memreq.reports.gathering import CutShort, Ended, Event, Judged, Left, Started
from pytest_memreq.reports.reading import test_as_built
from pytest_memreq.strict_json import build, check_format, parse, shown, to_text

NAME = "journal.jsonl"
FORMAT = 1
KINDS: dict[str, type[Any]] = {
    "started": Started,
    "ended": Ended,
    "judged": Judged,
    "left": Left,
    "cut_short": CutShort,
}
NAMES = {kind: name for name, kind in KINDS.items()}


def heading() -> str:
    """The first line."""
    return _line({"format": FORMAT})


def line_of(event: Event) -> str:
    """The event's line, its newline with it."""
    if isinstance(event, Judged):
        content = {"result": event.result.to_dict(), "environment": asdict(event.environment)}
        return _line({"judged": content})
    return _line({NAMES[type(event)]: asdict(event)})


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
