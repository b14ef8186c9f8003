"""Foreign text in Markdown: as code, where no Markdown is read and nobody is mentioned.

In a table of Markdown, escaped text that is not code still becomes links. A table of HTML reads
nothing as Markdown, up to the first blank line, so none is within; one of Markdown can also be read
as it is.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from pytest_memreq.reports.text import visible

CODE_CHARACTERS = 300
SPAN_CHARACTERS = 200


def code(text: str, most: int = CODE_CHARACTERS) -> str:
    """HTML: text on one line, as it is, whatever is in it; for blocks of HTML alone.

    In a line of Markdown, what is between tags is read as Markdown: there it is `code_span`.
    """
    return f"<code>{html.escape(visible(text, most)) or ' '}</code>"


def code_span(text: str, most: int = SPAN_CHARACTERS) -> str:
    """Markdown: the same, in a line that is read as Markdown."""
    shown = visible(text, most)
    longest = max(map(len, re.findall("`+", shown)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest or not shown.strip() else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def code_cell(text: str, most: int = SPAN_CHARACTERS) -> str:
    """Markdown: the same, in a table of Markdown, which takes a `\\|` for the `|` of a text."""
    return code_span(text, most).replace("|", r"\|")


def lines_of_code(lines: Iterable[str]) -> str:
    """Several lines in one cell."""
    return "<br>".join(map(code, lines))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], made_rows: Iterable[str] = ()) -> str:
    """A block of HTML; `head` is plain text, cells are HTML, the last one spans what is left.

    `made_rows` come after `rows`, as `row` made them.
    """
    lines = ["<table>", f"<tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr>"]
    lines += [row(cells, len(head)) for cells in rows]
    return "\n".join([*lines, *made_rows, "</table>"])


def row(cells: Sequence[str], columns: int) -> str:
    """A row of such a table."""
    span = columns - len(cells) + 1
    *first, last = cells
    end = f'<td colspan="{span}">{last}</td>' if span > 1 else f"<td>{last}</td>"
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in first)}{end}</tr>"


def folded(summary: str, content: str) -> str:
    """A block of HTML that is shown where it is asked for; both are HTML."""
    return f"<details><summary>{summary}</summary>\n{content}\n</details>"
