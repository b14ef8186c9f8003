"""A comparison of two runs as text, as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from pytest_memreq.gate.change import Change, signed
from pytest_memreq.gate.explain import Explanation, explanation_lines
from pytest_memreq.reports.comparing import Diff, TestDiff, metrics_changed
from pytest_memreq.reports.markup import code, lines_of_code, table
from pytest_memreq.reports.text import visible
from pytest_memreq.requirement import Peak
from pytest_memreq.strict_json import to_text
from pytest_memreq.units import format_size

FORMAT = 1
BASE = "the base"
INDENT = "    "
SHOWN_CHANGES = 5
SHOWN_MODULES = 5
SHOWN_TESTS = 100  # of Markdown, which has to fit a comment
LINE_CHARACTERS = 300
MARKDOWN_CHARACTERS = 60_000
HEAD = ("", "base", "head", "change", "test")


def as_text(diff: Diff) -> str:
    """A row a test that changed, and below it why."""
    lines = [_heading(diff)]
    for test in diff.tests:
        if _is_shown(test):
            lines.append(visible(f"{_row(test, diff)}  {_name(test)}", LINE_CHARACTERS))
            lines += [INDENT + visible(line, LINE_CHARACTERS) for line in _details(test)]
    lines += [f"note: {visible(note, LINE_CHARACTERS)}" for note in diff.notes]
    lines += [f"cannot tell: {visible(each, LINE_CHARACTERS)}" for each in diff.problems]
    return "\n".join([*lines, _summary(diff)]) + "\n"


def as_markdown(diff: Diff) -> str:
    """A heading, and all else in one table of HTML, at most as long as a comment may be."""
    shown = [test for test in diff.tests if _is_shown(test)]
    heading = f"### GPU memory: {_summary(diff)}\n\n"
    rows = [[code("from"), lines_of_code([diff.base])], [code("to"), lines_of_code([diff.head])]]
    rows += [["<b>cannot tell</b>", code(each)] for each in diff.problems]
    room = MARKDOWN_CHARACTERS - len(heading) - len(table(HEAD, rows))
    for at, test in enumerate(shown):
        more = _markdown_rows(test, diff)
        room -= sum(len(cell) + 30 for row in more for cell in row)  # 30: the tags around it
        if room < 0 or at == SHOWN_TESTS:
            rows.append(["", f"and {len(shown) - at} more"])
            break
        rows += more
    rows += [["note", code(note)] for note in diff.notes]
    return f"{heading}{table(HEAD, rows)}\n"


def as_json(diff: Diff) -> str:
    """Every figure, for programs."""
    document = {
        "format": FORMAT,
        "status": diff.status,
        "base": diff.base,
        "head": diff.head,
        "metric": diff.metric,
        "tolerance": None if diff.tolerance is None else str(diff.tolerance),
        "tests": [_test_to_dict(test) for test in diff.tests],
        "problems": list(diff.problems),
        "notes": list(diff.notes),
        "summary": diff.summary(),
    }
    return to_text(document, indent=1) + "\n"


FORMATS: dict[str, Callable[[Diff], str]] = {
    "terminal": as_text,
    "markdown": as_markdown,
    "json": as_json,
}


def _is_shown(test: TestDiff) -> bool:
    return test.status != "within" or any(size for _, size in metrics_changed(test))


def _heading(diff: Diff) -> str:
    names = f"{visible(diff.base, 100)} -> {visible(diff.head, 100)}"
    return f"{names}: peaks of {diff.metric}, tolerance {_tolerance(diff)}"


def _tolerance(diff: Diff) -> str:
    return "that of baselines" if diff.tolerance is None else str(diff.tolerance)


def _name(test: TestDiff) -> str:
    return f"{test.nodeid} ({test.device})" if test.device else test.nodeid


def _row(test: TestDiff, diff: Diff) -> str:
    return f"{test.status:9} {' '.join(f'{cell:>11}' for cell in _figures(test, diff))}"


def _figures(test: TestDiff, diff: Diff) -> tuple[str, str, str]:
    size = test.change_bytes(diff.metric)
    before = None if test.base is None else test.base.of(diff.metric)
    share = f" ({size / before:+.1%})" if size and before else ""
    change = "" if size is None else f"{signed(size)}{share}"
    return _size(test.base, diff), _size(test.head, diff), change


def _size(peak: Peak | None, diff: Diff) -> str:
    if peak is None:
        return "-"
    size = peak.of(diff.metric)
    return "?" if size is None else format_size(size)


def _details(test: TestDiff) -> Iterator[str]:
    if test.reason:
        yield test.reason
    others = [f"{metric} {signed(size)}" for metric, size in metrics_changed(test) if size]
    if others:
        yield ", ".join(others)
    if test.explanation is not None and _says_something(test.explanation):
        yield from explanation_lines(test.explanation, BASE, SHOWN_CHANGES)
        yield from _modules(test.explanation)


def _says_something(explanation: Explanation) -> bool:
    return bool(explanation.changes or explanation.unlisted or explanation.renames)


def _modules(explanation: Explanation) -> Iterator[str]:
    """The sums by module, where they say more than the changes do."""
    modules = explanation.modules
    if len(modules) < 2 or len(modules) == len(explanation.changes):
        return
    shown = [f"{module or 'no module'} {signed(size)}" for module, size in modules[:SHOWN_MODULES]]
    more = len(modules) - SHOWN_MODULES
    yield f"by module: {', '.join(shown)}{f' and {more} more' if more > 0 else ''}"


def _summary(diff: Diff) -> str:
    counts = [f"{count} {status}" for status, count in diff.summary().items() if count]
    return ", ".join(counts) or "no test on either side"


def _markdown_rows(test: TestDiff, diff: Diff) -> list[list[str]]:
    row = [f"<b>{test.status}</b>", *map(code, _figures(test, diff)), code(_name(test))]
    details = list(_details(test))
    return [row, ["", lines_of_code(details)]] if details else [row]


def _test_to_dict(test: TestDiff) -> dict[str, Any]:
    explanation = test.explanation
    return {
        "nodeid": test.nodeid,
        "device": test.device or None,
        "status": test.status,
        "reason": test.reason,
        "base": None if test.base is None else asdict(test.base),
        "head": None if test.head is None else asdict(test.head),
        "change": {f"{metric}_bytes": size for metric, size in metrics_changed(test)},
        "explanation": None if explanation is None else _explanation_to_dict(explanation),
    }


def _explanation_to_dict(explanation: Explanation) -> dict[str, Any]:
    return {
        "total_bytes": explanation.total_bytes,
        "breakdown": {f"{word}_bytes": size for word, size in explanation.words},
        "modules": [{"module": name, "bytes": size} for name, size in explanation.modules],
        "changes": [_change_to_dict(change) for change in explanation.changes],
        "unlisted": [asdict(unlisted) for unlisted in explanation.unlisted],
        "elsewhere_bytes": explanation.elsewhere_bytes,
        "renames": [asdict(rename) for rename in explanation.renames],
    }


def _change_to_dict(change: Change) -> dict[str, Any]:
    words = {f"{word}_bytes": size for word, size in change.words}
    return {**asdict(change), "words": words}
