"""What the comment says: the run's data in our words, and what GitHub itself says of the run."""

from __future__ import annotations

from pytest_memreq.cli.commenting.answers import Run
from pytest_memreq.reports.markdown import MOST_BYTES, outcome, render
from pytest_memreq.reports.markup import code
from pytest_memreq.results import Results

SUCCESS = "success"
GREEN = ("passed", "not all checked")  # as the pytest run is, where nothing else fails
OTHERWISE_RED = "something else in it failed, or the report is not what its tests found"
OTHERWISE_GREEN = "its workflow lets failures pass"
FORGEABLE = "The figures are the run's own: code in a pull request can change what is measured."


def of_report(results: Results, run: Run, link: str, version: str, mark: str) -> str:
    """The report, at most MOST_BYTES of UTF-8, and a line where it and the run contradict."""
    top = [mark, *_contradiction(outcome(results), run)]
    end = _end(run, link, version)
    own_bytes = sum(len(part.encode()) + 2 for part in (*top, end))
    return "\n\n".join([*top, render(results, MOST_BYTES - own_bytes).rstrip("\n"), end])


def of_no_report(problem: str, run: Run, link: str, version: str, mark: str) -> str:
    """That nothing is known, and why."""
    heading = "### GPU memory: no report"
    said = f"The measuring run gave none that can be used: {code(problem)}"
    return "\n\n".join(
        [mark, heading, f"{said}. So nothing is known of its tests.", _end(run, link, version)]
    )


def _contradiction(said: str, run: Run) -> list[str]:
    """Where only one of the report and the run is green."""
    if (said in GREEN) == (run.conclusion == SUCCESS):
        return []
    why = OTHERWISE_RED if said in GREEN else OTHERWISE_GREEN
    return [f"**The run ended with {code(str(run.conclusion))} all the same:** {why}."]


def _end(run: Run, link: str, version: str) -> str:
    return (
        f'<sub>Commit {code(run.head_sha)}, <a href="{link}">run {run.id}</a>, which ended with '
        f"{code(str(run.conclusion))}. {FORGEABLE} Rendered by pytest-memreq {version}.</sub>"
    )
