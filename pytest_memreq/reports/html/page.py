"""The whole page, as large as it may be: first all rows, then cards, the worst with plots.

What does not fit is counted and said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from pytest_memreq.reports.html.card import (
    NAME_CHARACTERS,
    ROW_CHARACTERS,
    card_of,
    row_of,
    shown,
)
from pytest_memreq.reports.html.templates import assets, environment
from pytest_memreq.reports.html.view import Card, Row
from pytest_memreq.reports.rows import (
    WORST_FIRST,
    counted,
    counted_notes,
    described,
    has_failed,
    needs_a_look,
    outcome,
    severity,
    shown_verdict,
    source,
    together_lines,
    unfinished,
    used_shares,
)
from pytest_memreq.results import Results, TestResult

MOST_BYTES = 3_000_000
MARGIN_BYTES = 2_000  # headings, and the sentences on what is left out
ROWS_SHARE = 0.8  # of the room, where rows and cards do not both fit
MOST_CARDS = 500
MOST_PLOTTED = 36
PLOTS_SHARE = 0.7  # of the room for cards, where plots and all cards do not both fit
QUIET_CARDS = 6  # of tests that need no look, where others leave room
SHOWN_NOTES = 50
ROW_BYTES = 120  # of a row, without its name


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """What fits of several pieces, and how many there are."""

    made: tuple[Markup, ...] = ()
    count: int = 0

    @property
    def left_out(self) -> int:
        """How many do not fit."""
        return self.count - len(self.made)

    @property
    def size(self) -> int:
        """Bytes of those that do."""
        return sum(len(piece.encode()) for piece in self.made)


def page(results: Results) -> str:
    """The page of a run."""
    order = sorted(results.tests, key=lambda test: (severity(test), -_share(test), test.nodeid))
    look = [test for test in order if needs_a_look(test)]
    quiet = [test for test in order if not needs_a_look(test)][:QUIET_CARDS]
    anchors = {test.nodeid: f"t{at}" for at, test in enumerate((*look[:MOST_CARDS], *quiet), 1)}
    whole, fixed = environment().get_template("page.html"), {**_head(results), **assets()}
    frame = whole.render(**fixed, cards=Pieces(), others=Pieces(), rows=Pieces())
    room = MOST_BYTES - MARGIN_BYTES - len(frame.encode())
    for_cards = room - min(_rough_size(order), int(room * ROWS_SHARE))
    cards = _cards(look[:MOST_CARDS], anchors, for_cards)
    others = _pieces("card", quiet, _plotted(anchors), for_cards - cards.size)
    left = {test.nodeid for test in (*look[len(cards.made) :], *quiet[len(others.made) :])}

    def row(test: TestResult) -> Row:
        return row_of(test, "" if test.nodeid in left else anchors.get(test.nodeid, ""))

    rows = _pieces("row", order, row, room - cards.size - others.size)
    cards = replace(cards, count=len(look))
    return whole.render(**fixed, cards=cards, others=others, rows=rows)


def _cards(tests: Sequence[TestResult], anchors: Mapping[str, str], room: int) -> Pieces:
    """The worst with plots, as far as these leave room for the others without."""
    first = _pieces("card", tests[:MOST_PLOTTED], _plotted(anchors), int(room * PLOTS_SHARE))

    def plain(test: TestResult) -> Card:
        return card_of(test, anchors[test.nodeid], has_plots=False)

    rest = _pieces("card", tests[len(first.made) :], plain, room - first.size)
    return Pieces(made=(*first.made, *rest.made), count=len(tests))


def _plotted(anchors: Mapping[str, str]) -> Callable[[TestResult], Card]:
    return lambda test: card_of(test, anchors[test.nodeid], has_plots=True)


def _rough_size(tests: Iterable[TestResult]) -> int:
    """Bytes of all rows, without making them."""
    return sum(min(len(test.nodeid), ROW_CHARACTERS) + ROW_BYTES for test in tests)


def _pieces(
    macro: str,
    tests: Sequence[TestResult],
    view: Callable[[TestResult], object],
    room: int,
) -> Pieces:
    """What a macro makes of each view, up to the first for which there is no room."""
    make = getattr(environment().get_template("parts.html").module, macro)
    made: list[Markup] = []
    for test in tests:
        piece = make(view(test))
        room -= len(piece.encode())
        if room < 0:
            break
        made.append(piece)
    return Pieces(made=tuple(made), count=len(tests))


def _head(results: Results) -> dict[str, object]:
    notes = counted_notes(results)
    words = [shown_verdict(test) for test in results.tests]
    return {
        "outcome": outcome(results),
        "counted": counted(results),
        "chips": [(word, words.count(word)) for word in (*WORST_FIRST, "within") if word in words],
        "unfinished": unfinished(results, _named) or "",
        "failed": sum(map(has_failed, results.tests)),
        "source": shown(source(results.environment)),
        "environment": [(name, shown(text)) for name, text in described(results.environment)],
        "together": [*together_lines(results)],
        "notes": [(shown(note), count) for note, count in notes[:SHOWN_NOTES]],
        "more_notes": max(0, len(notes) - SHOWN_NOTES),
    }


def _named(nodeid: str) -> str:
    return shown(nodeid, NAME_CHARACTERS)


def _share(test: TestResult) -> float:
    return max(used_shares(test).values(), default=0.0)
