"""The published schemas, and whether something is valid for one."""

import json
from functools import cache
from pathlib import Path

from jsonschema import Draft202012Validator
from jsonschema.validators import extend

DOCS = Path(__file__).parents[2] / "docs"
# What JSON Schema takes for an integer is a whole number, 1.0 too; the readers tell them apart.
_TYPES = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, raw: type(raw) is int)
_STRICT = extend(Draft202012Validator, type_checker=_TYPES)


def published(name):
    return json.loads((DOCS / f"{name}.schema.json").read_text(encoding="utf-8"))


@cache
def validator(name):
    return _STRICT(published(name))


def errors_of(name, text):
    """What is wrong with a file's text, in the words of jsonschema."""
    return [error.message for error in validator(name).iter_errors(json.loads(text))]
