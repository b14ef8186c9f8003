"""JSON that anybody may have written: read strictly, with one line on what is wrong and where.

And written so that it can be shown in a CI server's log, whatever its strings hold.

Python's reader lets much pass that no writer of ours makes: NaN, a key given twice, true for 1.
"""

from __future__ import annotations

import json
import re
import types
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from json import dumps  # itself: a test may have replaced it when a line of the journal is due
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from pytest_memreq.errors import MemreqError

Value = TypeVar("Value")
Reader = Callable[[object, str], Any]  # of a parsed value and of where it stands

MAX_NUMBER = 2**63 - 1
SHOWN_CHARACTERS = 60
SIGNED = frozenset({"leaked_bytes"})  # what was given back counts too

_CONFLICT = re.compile(rb"^(?:<<<<<<<|>>>>>>>|=======)(?: |\r?$)", re.MULTILINE)
# As in reports/text: what runners take for commands. Only strings have such, and a string may have
# any of its characters as an escape.
_COMMANDS = re.compile(r"#(?=\[|vso\[)|(?<=\[)\[(?=attachment\|)", re.IGNORECASE)


def to_text(raw: object, **layout: Any) -> str:
    """Strict JSON in ASCII, in which no runner finds a command.

    A NaN or infinity raises ValueError. `layout` is that of `json.dumps`.
    """
    text = dumps(raw, allow_nan=False, **layout)
    return _COMMANDS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def parse(content: bytes, where: str) -> dict[str, Any]:
    """The JSON object that a file holds; a byte order mark before it is let pass.

    Raises MemreqError beginning with `where` for anything else.
    """
    try:
        read = json.loads(
            content.decode("utf-8-sig"),
            object_pairs_hook=_without_repeats,
            parse_constant=_no_constant,
        )
    except MemreqError as error:
        raise MemreqError(f"{where}: {error}") from None
    except UnicodeDecodeError:
        raise MemreqError(f"{where}: is not UTF-8") from None
    except RecursionError:
        raise MemreqError(f"{where}: is not JSON of ours: nested too deep") from None
    except ValueError as error:
        raise MemreqError(f"{where}: {_why_no_json(content, error)}") from None
    if not isinstance(read, dict):
        raise MemreqError(f"{where}: holds {shown(read)} instead of an object")
    return read


def check_format(raw: Mapping[str, Any], known: int, where: str) -> None:
    """Raise MemreqError for another format than `known`, which "format" says."""
    given = raw.get("format")
    if given == known and type(given) is int:
        return
    if isinstance(given, int) and given > known:
        raise MemreqError(
            f"{where}: is of format {shown(given)}, made by a newer version; this one reads {known}"
        )
    if "format" not in raw:
        raise MemreqError(f'{where}: is no file of memreq: it has no "format"; right is {known}')
    raise MemreqError(f'{where}: has "format" {shown(given)}; right is {known}')


def build(kind: Callable[..., Value], raw: object, where: str) -> Value:
    """A dataclass from a parsed object, by the types of its fields, and so on within them.

    Keys that it does not know are passed over; what is missing has its default. Raises MemreqError
    beginning with `where` for what does not fit.
    """
    value: Value = _reader(kind)(raw, where)
    return value


def exact_keys(raw: object, keys: Iterable[str], where: str) -> dict[str, Any]:
    """The object, which has these keys and no other; raises MemreqError for one that has not."""
    given, known = _object(raw, where), tuple(keys)
    for key in given:
        if key not in known:
            raise MemreqError(f"{where}: unknown {shown(key)}; known are {', '.join(known)}")
    for key in known:
        if key not in given:
            raise MemreqError(f"{where}: has no {key!r}")
    return given


def shown(raw: object) -> str:
    """A parsed value for a message: short, on one line, in ASCII."""
    if isinstance(raw, (dict, list)):
        return "an object" if isinstance(raw, dict) else "a list"
    text = ascii(raw) if isinstance(raw, str) else dumps(raw)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."


def whole_number(raw: object, where: str, *, least: int = 0) -> int:
    """An int from `least` to 2^63 - 1; raises MemreqError for anything else, true and 1.0 too."""
    if not isinstance(raw, int) or isinstance(raw, bool):
        raise MemreqError(f"{where}: {shown(raw)} is not a whole number")
    if not least <= raw <= MAX_NUMBER:
        raise MemreqError(f"{where}: {shown(raw)} is not from {least} to 2^63 - 1")
    return raw


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) < len(pairs):
        [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise MemreqError(f"has {shown(twice)} twice in one object")
    return read


def _no_constant(name: str) -> NoReturn:
    raise MemreqError(f"has {name}, which is no number in JSON")


def _why_no_json(content: bytes, error: ValueError) -> str:
    mark = _CONFLICT.search(content)
    if mark is not None:
        line = content.count(b"\n", 0, mark.start()) + 1
        return f"line {line}: has the marks of a git conflict; resolve it first"
    return f"is not JSON: {error}"


@cache
def _reader(hint: Any) -> Reader:
    """What reads a value of a type: made once, for a report has a hundred thousand of them."""
    if is_dataclass(hint):
        return _dataclass(hint)
    return READERS[get_origin(hint) or hint](get_args(hint))


def _dataclass(kind: Any) -> Reader:
    hints = get_type_hints(kind)
    readers = {field.name: _reader(hints[field.name]) for field in fields(kind)}
    required = [
        field.name
        for field in fields(kind)
        if field.default is MISSING and field.default_factory is MISSING
    ]

    def read(raw: object, where: str) -> Any:
        given = _object(raw, where)
        for name in required:
            if name not in given:
                raise MemreqError(f"{where}: has no {name!r}")
        known = {name: each for name, each in given.items() if name in readers}
        return kind(**{k: readers[k](each, f"{where}.{k}") for k, each in known.items()})

    return read


def _optional(options: tuple[Any, ...]) -> Reader:
    [other] = [_reader(option) for option in options if option is not type(None)]
    return lambda raw, where: None if raw is None else other(raw, where)


def _one_of(choices: tuple[Any, ...]) -> Reader:
    def read(raw: object, where: str) -> Any:
        if not isinstance(raw, str) or raw not in choices:
            raise MemreqError(f"{where}: {shown(raw)} is not one of {', '.join(choices)}")
        return raw

    return read


def _tuple(kinds: tuple[Any, ...]) -> Reader:
    readers = [_reader(kind) for kind in kinds if kind is not Ellipsis]
    is_open = Ellipsis in kinds

    def read(raw: object, where: str) -> Any:
        if not isinstance(raw, list):
            raise MemreqError(f"{where}: {shown(raw)} is not a list")
        each = readers * len(raw) if is_open else readers
        if len(each) != len(raw):
            raise MemreqError(f"{where}: has {len(raw)} elements; right are {len(each)}")
        return tuple(each[n](inner, f"{where}[{n}]") for n, inner in enumerate(raw))

    return read


def _mapping(kinds: tuple[Any, ...]) -> Reader:
    value = _reader(kinds[1])
    return lambda raw, where: {
        key: value(each, f"{where}.{shown(key)[1:-1]}") for key, each in _object(raw, where).items()
    }


def _of(kind: type[Any], name: str) -> Callable[[object], Reader]:
    def read(raw: object, where: str) -> Any:
        if not isinstance(raw, kind):
            raise MemreqError(f"{where}: {shown(raw)} is not {name}")
        return raw

    return lambda _: read


def _whole(raw: object, where: str) -> int:
    name = where.rpartition(".")[2]
    is_size = name.endswith("bytes") and name not in SIGNED
    return whole_number(raw, where, least=0 if is_size else -MAX_NUMBER)


def _number(raw: object, where: str) -> float:
    if isinstance(raw, bool) or not isinstance(raw, (int, float)) or not abs(raw) <= MAX_NUMBER:
        raise MemreqError(f"{where}: {shown(raw)} is not a number up to 2^63 - 1")
    return float(raw)


def _object(raw: object, where: str) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise MemreqError(f"{where}: {shown(raw)} is not an object")
    return raw


READERS: dict[Any, Callable[[tuple[Any, ...]], Reader]] = {
    Union: _optional,
    types.UnionType: _optional,
    Literal: _one_of,
    tuple: _tuple,
    Mapping: _mapping,
    int: lambda _: _whole,
    float: lambda _: _number,
    str: _of(str, "text"),
    bool: _of(bool, "true or false"),
}
