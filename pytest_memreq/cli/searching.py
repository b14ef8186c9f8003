"""The search over layouts: all by formula, then the best by simulation, as far as it gets."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_memreq.cli.interrupting import Interruption, interruptible
from pytest_memreq.cli.limits import Limit
from pytest_memreq.cli.solve_tables import Answer, name_of
from pytest_memreq.cli.telling import Telling
from pytest_memreq.estimate.formula import Setup
from pytest_memreq.estimate.transformer import Transformer
from pytest_memreq.layouts.finalists import Training, chosen, marked, simulated
from pytest_memreq.layouts.grid import Grid
from pytest_memreq.layouts.judging import Judged, judge, ranked
from pytest_memreq.layouts.layout import Layout
from pytest_memreq.requirement import Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is sought: layouts of a model that fit, `finalists` of them on a pretended card."""

    model: Transformer
    grid: Grid
    setup: Setup
    training: Training
    limit: Limit
    gpu: str
    metric: Metric
    finalists: int


def search(question: Question, telling: Telling) -> Answer:
    """All that was found out before it was done, or interrupted."""
    begun = _Search(question, telling)
    with interruptible() as interruption:
        begun.by_formula()
        begun.by_simulation(interruption)
    return begun.answer(is_complete=not interruption.was_heard)


class _Search:
    """What is found out of a question, layout by layout."""

    def __init__(self, question: Question, telling: Telling) -> None:
        self._question = question
        self._telling = telling
        self._found: dict[Layout, Judged] = {}
        self._finalists = question.finalists
        self._simulated = 0

    def by_formula(self) -> None:
        """Judge every layout, and mark those that no simulation can follow up."""
        question = self._question
        for layout in question.grid.layouts:
            found = judge(question.model, layout, question.setup, question.limit.bytes)
            if question.finalists:
                found = marked(question.model, found, question.training)
            self._found[layout] = found
            self._telling.of_formulas(len(self._found), len(question.grid.layouts))

    def by_simulation(self, interruption: Interruption) -> None:
        """Simulate the best."""
        finalists = chosen(self._found.values(), self._question.finalists)
        self._finalists = len(finalists)
        for number, finalist in enumerate(finalists, 1):
            self._telling.of_finalist(number, len(finalists), name_of(finalist.layout))
            self._found[finalist.layout] = self._followed_up(finalist, interruption)
            self._simulated = number

    def _followed_up(self, finalist: Judged, interruption: Interruption) -> Judged:
        def progress(operators: int) -> None:
            interruption.check()
            self._telling.of_operators(operators)

        question = self._question
        return simulated(
            question.model,
            finalist,
            question.training,
            gpu=question.gpu,
            metric=question.metric,
            progress=progress,
        )

    def answer(self, *, is_complete: bool) -> Answer:
        """What was found out so far."""
        question = self._question
        return Answer(
            judged=ranked(self._found.values()),
            layouts=len(question.grid.layouts),
            left_out=question.grid.left_out,
            limit=question.limit,
            metric=question.metric,
            simulated=self._simulated,
            finalists=self._finalists,
            is_complete=is_complete,
        )
