"""`memreq.md`: a run as Markdown, for a job summary or a comment on a pull request.

A comment on GitHub has at most 65,536 characters. The file is always smaller, and says how much it
leaves out: the passed tests first, then what bears the verdicts out, then the mildest verdicts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pytest_memreq.gate.change import signed
from pytest_memreq.reports.markup import code, code_span, folded, lines_of_code, row, table
from pytest_memreq.reports.rows import (
    counted,
    counted_notes,
    described,
    evidence,
    needs_a_look,
    outcome,
    severity,
    shown_verdict,
    size_text,
    tightest,
    together_lines,
    unfinished,
)
from pytest_memreq.requirement import Metric
from pytest_memreq.results import Environment, Results, TestResult

MOST_BYTES = 60_000
MARGIN_BYTES = 1_000  # the tags around rows, and the sentences on what is left out
ROWS_SHARE = 2 / 3  # of the room, where what bears the verdicts out would not fit beside all rows
SHOWN_LINES = 12
SHOWN_NOTES = 10
SHORT_CHARACTERS = 100
HEAD = ("verdict", "test", "peak", "budget", "baseline")
WITHIN = "within"


def render(results: Results, most_bytes: int = MOST_BYTES) -> str:
    """A heading with the outcome, the tests that need a look, the others folded, and where."""
    heading = f"### GPU memory: {outcome(results)}: {counted(results)}"
    unknown = unfinished(results, code_span)
    top = [heading, unknown] if unknown else [heading]
    shared = [("at once", text) for text in together_lines(results)]
    rows = [*_environment(results.environment), *shared, *_notes(results)]
    end = [table(("environment", ""), rows)]
    room = most_bytes - MARGIN_BYTES - _bytes([*top, *end])
    look = sorted((test for test in results.tests if test.verdict != WITHIN), key=severity)
    within = [test for test in results.tests if test.verdict == WITHIN]
    shown = _looked_at(look, room)
    rest = _passed(within, room - _bytes(shown))
    return "\n\n".join([*top, *shown, *rest, *end]) + "\n"


def _looked_at(tests: Sequence[TestResult], room: int) -> list[str]:
    """The table of the tests that need a look, as far as there is room."""
    if not tests:
        return []
    rows = _fitting(map(_row, tests), int(room * ROWS_SHARE))
    details = _fitting(map(_details, tests[: len(rows)]), room - _bytes(rows))
    rows += _fitting(map(_row, tests[len(rows) :]), room - _bytes([*rows, *details]))
    lines = [line for at, each in enumerate(rows) for line in (each, *details[at : at + 1]) if line]
    more = [f"and {len(tests) - len(rows)} more that need a look"] * (len(rows) < len(tests))
    bare = sum(bool(_details(test)) for test in tests[len(details) : len(rows)])
    more += [f"what is behind {bare} of these is left out"] * (bare > 0)
    return [table(HEAD, [], lines), *more]


def _passed(tests: Sequence[TestResult], room: int) -> list[str]:
    """The table of those that are within, folded."""
    if not tests:
        return []
    rows = _fitting(map(_row, tests), room)
    more = f", {len(tests) - len(rows)} of them left out here" if len(rows) < len(tests) else ""
    return [folded(f"{len(tests)} within{more}", table(HEAD, [], rows))]


def _fitting(pieces: Iterable[str], room: int) -> list[str]:
    """The pieces up to the first for which there is no room."""
    taken = []
    for piece in pieces:
        room -= _bytes([piece])
        if room < 0:
            break
        taken.append(piece)
    return taken


def _bytes(pieces: Iterable[str]) -> int:
    return sum(len(piece.encode()) + 2 for piece in pieces)  # 2: the blank line between blocks


def _row(test: TestResult) -> str:
    metric = tightest(test)
    of = "" if metric == "allocated" else f" {metric}"
    cells = [
        f"<b>{shown_verdict(test)}</b>",
        code(test.nodeid),
        f"{size_text(test.peak.of(metric))}{of}",
        size_text(test.budget.get(f"{metric}_bytes")) if test.budget else "-",
        _before(test, metric),
    ]
    if test.verdict == WITHIN:
        return row(cells, len(HEAD))
    return f"{row(cells, len(HEAD))}\n{row(['', code(test.reason)], len(HEAD))}"


def _before(test: TestResult, metric: Metric) -> str:
    peak = None if test.baseline is None else test.baseline.peak
    if peak is None:
        return "-"
    before, now = peak.of(metric), test.peak.of(metric)
    if before is None or now is None or before == now:
        return size_text(before)
    share = f", {now / before - 1:+.2%}" if before else ""
    return f"{size_text(before)} ({signed(now - before)}{share})"


def _details(test: TestResult) -> str:
    """A row with what bears the verdict out; empty where there is nothing."""
    if not needs_a_look(test):
        return ""
    lines = [f"peak: {test.peak_at}"] if test.peak_at else []
    lines += [*_divergence(test), *evidence(test)]
    if not lines:
        return ""
    shown, more = lines[:SHOWN_LINES], len(lines) - SHOWN_LINES
    end = f"<br>and {more} more" if more > 0 else ""
    return row(["", folded("why", f"{lines_of_code(shown)}{end}")], len(HEAD))


def _divergence(test: TestResult) -> Sequence[str]:
    return () if test.simulated is None else test.simulated.divergence


def _environment(where: Environment) -> Iterator[tuple[str, str]]:
    return ((name, code(text, SHORT_CHARACTERS)) for name, text in described(where))


def _notes(results: Results) -> Iterator[tuple[str, str]]:
    notes = counted_notes(results)
    for note, count in notes[:SHOWN_NOTES]:
        yield "note", f"{code(note)} ({count})"
    if len(notes) > SHOWN_NOTES:
        yield "note", f"and {len(notes) - SHOWN_NOTES} more"
