"""Values with text of one's choice in every field that takes text, whichever fields there are."""

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Literal, Union, get_args, get_origin, get_type_hints

from pytest_memreq.requirement import METRICS

BUDGETS = {f"{metric}_bytes": 3 + at for at, metric in enumerate(METRICS)}


def filled(kind, text, number=7, **chosen):
    """A `kind` by its types: no field is left to its default, and no list is empty.

    What is a Literal has its first word; `chosen` are fields of `kind` itself.
    """
    return _filled(kind, text, number, chosen)


def _filled(hint, text, number, chosen=()):
    if is_dataclass(hint):
        given = dict(chosen)
        hints = [(name, each) for name, each in _hints(hint) if name not in given]
        return hint(**given, **{name: _filled(each, text, number) for name, each in hints})
    return FILLERS[get_origin(hint) or hint](get_args(hint), text, number)


@cache
def _hints(kind):
    hints = get_type_hints(kind)
    return tuple((field.name, hints[field.name]) for field in fields(kind))


def _optional(options, text, number):
    [known] = [option for option in options if option is not type(None)]
    return _filled(known, text, number)


def _tuple(kinds, text, number):
    return tuple(_filled(kind, text, number) for kind in kinds if kind is not Ellipsis)


def _mapping(kinds, text, number):
    known = BUDGETS if kinds[1] is int else dict.fromkeys(METRICS, text)
    return {**known, text: _filled(kinds[1], text, number)}


FILLERS = {
    Union: _optional,
    types.UnionType: _optional,
    Literal: lambda words, *_: words[0],
    tuple: _tuple,
    Mapping: _mapping,
    str: lambda *given: given[1],
    int: lambda *given: given[2],
    float: lambda *given: float(given[2]),
    bool: lambda *_: True,
}
