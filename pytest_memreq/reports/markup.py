"""Foreign text in Markdown: as HTML code, where no Markdown is read and nobody is mentioned.

A table of Markdown is not safe: escaped text in a cell still becomes links. A block of HTML goes on
to the first blank line, so none is within.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from pytest_memreq.reports.text import visible

CODE_CHARACTERS = 300


def code(text: str, most: int = CODE_CHARACTERS) -> str:
    """Text on one line, as it is, whatever is in it."""
    return f"<code>{html.escape(visible(text, most)) or ' '}</code>"


def lines_of_code(lines: Iterable[str]) -> str:
    """Several lines in one cell."""
    return "<br>".join(map(code, lines))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A block of HTML; `head` is plain text, cells are HTML, the last one spans what is left."""
    lines = ["<table>", f"<tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr>"]
    for row in rows:
        span = len(head) - len(row) + 1
        *cells, last = row
        end = f'<td colspan="{span}">{last}</td>' if span > 1 else f"<td>{last}</td>"
        lines.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}{end}</tr>")
    return "\n".join([*lines, "</table>"])
