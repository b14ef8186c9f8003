"""A baseline as text: JSON, laid out for those who review and merge it.

A figure has a line of its own, and what grows stays in its line. The last element of each list is
always there, so that what comes before it never gains or loses a comma. The first line of an entry
is like no other and the last one has no figure: git finds its way by the first, and needs a line
between two changes. The peak stands right below the test's name, where a diff shows both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from pytest_memreq import strict_json
from pytest_memreq.errors import MemreqError
from pytest_memreq.gate.baseline import Baseline, DeviceClass, Entry, baseline_of
from pytest_memreq.gate.largest import Largest, Thing
from pytest_memreq.requirement import METRICS, Breakdown, Peak
from pytest_memreq.strict_json import build, check_format, exact_keys, parse, shown

FORMAT = 1
END = "end"
PARTS = {"device": DeviceClass, "peak": Peak, "breakdown": Breakdown}
NAMES = {kind: tuple(field.name for field in fields(kind)) for kind in (*PARTS.values(), Thing)}


def to_text(baseline: Baseline) -> str:
    """The same text for the same entries, in ASCII, with a line break at its end."""
    blocks = "".join(f"{_block(entry)},\n" for entry in baseline.entries)
    return f'{{"format": {FORMAT},\n"entries": [\n{blocks}{_json(END)}]}}\n'


def from_text(content: bytes, where: str) -> Baseline:
    """The baseline that a file's content holds, its entries in any order.

    Raises MemreqError beginning with `where` for anything that `to_text` would not have written:
    a figure that is left out or misspelt would be one that nobody is held against.
    """
    raw = parse(content, where)
    check_format(raw, FORMAT, where)
    listed = exact_keys(raw, ("format", "entries"), where)["entries"]
    if not isinstance(listed, list) or listed[-1:] != [END]:
        raise MemreqError(f'{where}: has "entries" that do not end with "{END}"')
    entries = [_entry(each, f"{where}: entries[{n}]") for n, each in enumerate(listed[:-1])]
    baseline = baseline_of(entries)
    if len(baseline.entries) < len(entries):
        raise MemreqError(f"{where}: {_twice(entries)}")
    return baseline


def _block(entry: Entry) -> str:
    breakdown = None if entry.breakdown is None else _plain(entry.breakdown)
    head = f'"nodeid": {_json(entry.nodeid)}, "device": {_json(_plain(entry.device))}'
    return ",\n ".join(
        [
            f"{{{head}",
            f'"peak": {_lines(_plain(entry.peak))}',
            f'"breakdown": {_json(None) if breakdown is None else _lines(breakdown)}',
            f'"largest": [\n  {_things(entry.largest)}\n ]}}',
        ]
    )


def _plain(value: Any) -> dict[str, Any]:
    """Its fields, as JSON has them; `asdict` would copy each first."""
    return {name: getattr(value, name) for name in NAMES[type(value)]}


def _lines(figures: Mapping[str, int | None]) -> str:
    return f"{{{_joined(f'{_json(name)}: {_json(size)}' for name, size in figures.items())}}}"


def _things(largest: Largest) -> str:
    things = [_json(_plain(thing)) for thing in largest.things]
    return _joined([*things, _json({"rest_bytes": largest.rest_bytes})])


def _joined(lines: Iterable[str]) -> str:
    return ",\n  ".join(lines)


def _json(value: object) -> str:
    return strict_json.to_text(value)


def _entry(raw: object, where: str) -> Entry:
    given = exact_keys(raw, ("nodeid", *PARTS, "largest"), where)
    for name, kind in PARTS.items():
        if given[name] is not None:
            exact_keys(given[name], NAMES[kind], f"{where}.{name}")
    entry = build(Entry, {**given, "largest": _largest(given["largest"], where)}, where)
    if all(entry.peak.of(metric) is None for metric in METRICS):
        raise MemreqError(f"{where}.peak: not one figure is known")
    return entry


def _largest(raw: object, where: str) -> dict[str, Any]:
    """As `build` takes it: the rest is in the file the last of the things."""
    if not isinstance(raw, list) or not raw:
        raise MemreqError(f'{where}.largest: {shown(raw)} does not end with "rest_bytes"')
    for n, thing in enumerate(raw[:-1]):
        exact_keys(thing, NAMES[Thing], f"{where}.largest[{n}]")
    last = exact_keys(raw[-1], ("rest_bytes",), f"{where}.largest[{len(raw) - 1}]")
    return {"things": raw[:-1], **last}


def _twice(entries: Iterable[Entry]) -> str:
    seen: set[Any] = set()
    for entry in entries:
        if entry.order in seen:
            return f"has {shown(entry.nodeid)} twice for {shown(str(entry.device))}"
        seen.add(entry.order)
    return "has an entry twice"
