"""The templates, which let no text through as markup, and the policy for what is our own."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from pytest_memreq.reports.html import curve, treemap
from pytest_memreq.reports.text import visible

POLICY = (
    "default-src 'none'; img-src data:; style-src '{style}'; script-src '{script}'; "
    "base-uri 'none'; form-action 'none'"
)

MARKS = {
    **dict.fromkeys(("within", "expected", "passed"), "✓"),
    **dict.fromkeys(("over", "failed"), "✗"),
    **dict.fromkeys(("unchecked", "incomplete", "not all checked", "nothing checked"), "?"),
    "regressed": "▲",
    "improved": "▼",
    "error": "!",
}
FILLS = {
    "parameters": "#a9cbf2",
    "gradients": "#f3b8a8",
    "optimizer_states": "#c9bbec",
    "activations": "#f4d794",
    "buffers": "#b5dcc0",
    "inputs": "#a6dfe0",
    "temporaries": "#ecbcd8",
    "workspaces": "#d6cab3",
    "context": "#c6ccd4",
    "other": "#dde0e5",
}


@cache
def environment() -> Environment:
    """Whatever a template prints is made visible, and then escaped."""
    made = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=FunctionLoader(_content),
        finalize=_seen,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["px"] = curve.number
    made.globals.update(marks=MARKS, fills=FILLS, curve_plot=curve, treemap_plot=treemap)
    return made


def assets() -> dict[str, Markup]:
    """Style, script and the policy that allows nothing else."""
    style, script = _content("style.css"), _content("script.js")
    policy = POLICY.format(style=_hash(style), script=_hash(script))
    own = {"style": style, "script": script, "policy": policy}
    return {name: Markup(text) for name, text in own.items()}  # noqa: S704 - files of this package


def _seen(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _content(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
