"""What the comment says: the run's data in our words, and what GitHub itself says of the run."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_memreq.cli.commenting.answers import Run
from pytest_memreq.reports.markdown import MOST_BYTES, render
from pytest_memreq.reports.markup import code_span
from pytest_memreq.reports.rows import outcome
from pytest_memreq.results import Results

SUCCESS = "success"
SHOWN_FILES = 10
SHOWN_CHARACTERS = 100
GREEN = ("passed", "not all checked")  # as the pytest run is, where nothing else fails
OTHERWISE_RED = "something else in it failed, or the report is not what its tests found"
OTHERWISE_GREEN = "its workflow lets failures pass"
FORGEABLE = "The figures are the run's own: code in a pull request can change what is measured."


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What surrounds the report: none of it is from the report.

    `changed` names the files of the pull request that may say what is allowed.
    """

    mark: str
    run: Run
    link: str
    version: str
    changed: tuple[str, ...] = ()


def of_report(results: Results, frame: Frame) -> str:
    """The report, at most MOST_BYTES of UTF-8, and a line where it and the run contradict."""
    top = [frame.mark, *_contradiction(outcome(results), frame.run), *_changed(frame)]
    end = _end(frame)
    own_bytes = sum(len(part.encode()) + 2 for part in (*top, end))
    return "\n\n".join([*top, render(results, MOST_BYTES - own_bytes).rstrip("\n"), end])


def of_no_report(problem: str, frame: Frame) -> str:
    """That nothing is known, and why."""
    heading = "### GPU memory: no report"
    said = f"The measuring run gave none that can be used: {code_span(problem)}"
    unknown = f"{said}. So nothing is known of its tests."
    return "\n\n".join([frame.mark, *_changed(frame), heading, unknown, _end(frame)])


def _contradiction(said: str, run: Run) -> list[str]:
    """Where only one of the report and the run is green."""
    if (said in GREEN) == (run.conclusion == SUCCESS):
        return []
    why = OTHERWISE_RED if said in GREEN else OTHERWISE_GREEN
    return [f"**The run ended with {code_span(str(run.conclusion))} all the same:** {why}."]


def _changed(frame: Frame) -> list[str]:
    if not frame.changed:
        return []
    shown, more = frame.changed[:SHOWN_FILES], len(frame.changed) - SHOWN_FILES
    names = ", ".join(code_span(name, SHOWN_CHARACTERS) for name in shown)
    end = f" and {more} more" if more > 0 else ""
    return [f"**Changed here, and may say what is allowed:** {names}{end}"]


def _end(frame: Frame) -> str:
    run, ended = frame.run, code_span(str(frame.run.conclusion))
    return (
        f'<sub>Commit {code_span(run.head_sha)}, <a href="{frame.link}">run {run.id}</a>, which '
        f"ended with {ended}. {FORGEABLE} Rendered by pytest-memreq {frame.version}.</sub>"
    )
