"""The JSON Schemas of `memreq.json` and `memreq-baseline.json`, made from the types in them.

Draft 2020-12. A schema takes what `strict_json` reads as these types. What no schema can say is
left to the readers: a test twice in a report, an entry twice in a baseline, what comes last in a
list, a whole number written as 1.0.
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pytest_memreq.gate import baseline_text
from pytest_memreq.gate.baseline import Baseline, Entry
from pytest_memreq.gate.largest import Thing
from pytest_memreq.reports.descriptions import DESCRIPTIONS
from pytest_memreq.reports.reading import NEEDED, Holder
from pytest_memreq.requirement import METRICS, Peak
from pytest_memreq.results import FORMAT, Results, TestResult
from pytest_memreq.strict_json import MAX_NUMBER, SIGNED

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]

NULL: Schema = {"type": "null"}
WHOLE: Schema = {"type": "integer", "minimum": -MAX_NUMBER, "maximum": MAX_NUMBER}
SIZE: Schema = {**WHOLE, "minimum": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """The last element of an entry's largest things."""

    rest_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """How a file differs from the value in it.

    `places` are fields that are written otherwise, or beside the value's own, and `kinds` what is
    in them. A file that `is_exact` has every key and no other; else unknown ones are passed over,
    and those with a default may lack, but for the root's `needed`.
    """

    root: type[Any]
    title: str
    places: Mapping[tuple[type[Any], str], Schema]
    kinds: tuple[type[Any], ...]
    is_exact: bool
    needed: tuple[str, ...] = ()


def schema_of(file: File) -> Schema:
    """The schema of a file, every field with its description."""
    kinds = dict.fromkeys(k for each in (file.root, *file.kinds) for k in _kinds(each, file))
    objects = {kind.__name__: _object(kind, file) for kind in kinds}
    return {
        "$schema": DIALECT,
        "$id": f"urn:pytest-memreq:{file.title}:{FORMAT}",
        "title": file.title,
        **objects.pop(file.root.__name__),
        "$defs": dict(sorted(objects.items())),
    }


def to_text(schema: Schema) -> str:
    """As it is published."""
    return json.dumps(schema, indent=1) + "\n"


def _kinds(hint: Any, file: File) -> Iterator[type[Any]]:
    """Every dataclass within a type, as far as the file has it."""
    inner = get_args(hint)
    if is_dataclass(hint):
        yield hint  # type: ignore[misc]  # a hint is a type, not an instance
        hints = get_type_hints(hint)
        inner = tuple(each for name, each in hints.items() if (hint, name) not in file.places)
    for each in inner:
        yield from _kinds(each, file)


def _object(kind: type[Any], file: File) -> Schema:
    hints = get_type_hints(kind)
    own = {field.name: _of(hints[field.name], field.name) for field in fields(kind)}
    written = {name: place for (owner, name), place in file.places.items() if owner is kind}
    told = DESCRIPTIONS[kind.__name__]
    beside = [name for name in written if "const" in written[name]]
    all_ = {**{name: written[name] for name in beside}, **own, **written}
    properties = {name: {"description": told[name], **each} for name, each in all_.items()}
    needed = file.needed if kind is file.root else ()
    required = [
        field.name
        for field in fields(kind)
        if file.is_exact or _is_required(field) or field.name in needed
    ]
    return {
        "description": told[""],
        "type": "object",
        "properties": properties,
        "required": [*beside, *required],
        **({"additionalProperties": False} if file.is_exact else {}),
    }


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _of(hint: Any, name: str) -> Schema:
    """The schema of a type, in a field of that name."""
    if is_dataclass(hint):
        return {"$ref": f"#/$defs/{hint.__name__}"}  # type: ignore[union-attr]  # as above
    return SCHEMAS[get_origin(hint) or hint](get_args(hint), name)


def _optional(options: tuple[Any, ...], name: str) -> Schema:
    [other] = [_of(option, name) for option in options if option is not type(None)]
    if "enum" in other:
        return {"enum": [*other["enum"], None]}
    is_plain = isinstance(other.get("type"), str)
    return {**other, "type": [other["type"], "null"]} if is_plain else {"anyOf": [other, NULL]}


def _list(kinds: tuple[Any, ...], _: str) -> Schema:
    if Ellipsis in kinds:
        return {"type": "array", "items": _of(kinds[0], "")}
    each = [_of(kind, "") for kind in kinds]
    return {"type": "array", "prefixItems": each, "items": False, "minItems": len(each)}


def _mapping(kinds: tuple[Any, ...], _: str) -> Schema:
    sizes = {"patternProperties": {"bytes$": SIZE}} if kinds[1] is int else {}
    return {"type": "object", **sizes, "additionalProperties": _of(kinds[1], "")}


def _whole(_: object, name: str) -> Schema:
    return SIZE if name.endswith("bytes") and name not in SIGNED else WHOLE


# For each type that strict_json reads, what it takes.
SCHEMAS: dict[Any, Callable[[tuple[Any, ...], str], Schema]] = {
    Union: _optional,
    types.UnionType: _optional,
    Literal: lambda choices, _: {"enum": list(choices)},
    tuple: _list,
    Mapping: _mapping,
    int: _whole,
    float: lambda *_: {"type": "number", "minimum": -MAX_NUMBER, "maximum": MAX_NUMBER},
    str: lambda *_: {"type": "string"},
    bool: lambda *_: {"type": "boolean"},
}


def _ended_by(last: Schema, each: type[Any]) -> Schema:
    """A list of something, and one last element of another kind."""
    items = {"anyOf": [_of(each, ""), last]}
    return {"type": "array", "items": items, "contains": last, "maxContains": 1}


def _format(number: int) -> Schema:
    return {"type": "integer", "const": number}


_KNOWN = [{"properties": {f"{metric}_bytes": {"type": "integer"}}} for metric in METRICS]

REPORT = File(
    root=Results,
    title="memreq.json",
    places={
        (Results, "format"): _format(FORMAT),
        (Results, "summary"): _of(Mapping[str, int], "summary"),
        (TestResult, "held_by"): _of(tuple[Holder, ...], "held_by"),
    },
    kinds=(Holder,),
    is_exact=False,
    needed=NEEDED,
)
BASELINE = File(
    root=Baseline,
    title="memreq-baseline.json",
    places={
        (Baseline, "format"): _format(baseline_text.FORMAT),
        (Baseline, "entries"): _ended_by({"const": baseline_text.END}, Entry),
        (Entry, "peak"): {"$ref": "#/$defs/Peak", "anyOf": _KNOWN},
        (Entry, "largest"): _ended_by(_of(Rest, ""), Thing),
    },
    kinds=(Entry, Peak, Rest, Thing),
    is_exact=True,
)
