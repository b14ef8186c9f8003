"""Lines that make GitHub Actions and Azure Pipelines show a verdict beside the test's line.

GitHub's runner keeps ten of each level a step, its own that the step failed among them, and cuts a
message at 4,096 characters. Both runners undo their escapes one after the other, `%` last, so that
is the first to be escaped here. As their sources read them:
https://github.com/actions/runner/blob/main/src/Runner.Common/ActionCommand.cs
https://github.com/microsoft/azure-pipelines-agent/blob/master/src/Microsoft.VisualStudio.Services.Agent/Command.cs
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Literal

from pytest_memreq.choices import Vendor
from pytest_memreq.reports.rows import evidence
from pytest_memreq.reports.text import visible
from pytest_memreq.results import Results, TestResult

Level = Literal["error", "warning"]
Pairs = tuple[tuple[str, str], ...]

MOST = 8
MESSAGE_CHARACTERS = 4000
NAME_CHARACTERS = 300
LINE_CHARACTERS = 1000
SHOWN_LINES = 8
UNFINISHED = "the run did not finish: tests are missing in its report"

GITHUB_DATA: Pairs = (("%", "%25"), ("\r", "%0D"), ("\n", "%0A"))
GITHUB_PROPERTY: Pairs = (*GITHUB_DATA, (":", "%3A"), (",", "%2C"))
AZURE: Pairs = (("%", "%AZP25"), ("\r", "%0D"), ("\n", "%0A"), ("]", "%5D"), (";", "%3B"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """What to show, and where: beside no line without a `file`, which is the repository's."""

    level: Level
    title: str
    message: str
    file: str | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """How one vendor's runner is told, and the variables by which it is known.

    `workspace` names the variable that has the directory of the repository.
    """

    render: Callable[[Annotation], str]
    variable: str
    value: str
    workspace: str


def annotation_lines(results: Results, vendor: Vendor, root: str | None = "") -> tuple[str, ...]:
    """The lines to print: of each level the worst eight, then one that counts the others.

    `root` is pytest's root directory, which files of tests are relative to, as seen from that of
    the repository; None where it is outside of it. Files outside of the repository are left out.
    """
    made = [_unfinished()] if results.status == "incomplete" else []
    levels = ((_level(test), test) for test in results.tests)
    told = [(level, test) for level, test in levels if level is not None]
    told.sort(key=lambda pair: WORST_FIRST.index(pair[1].verdict))
    made += [_of_test(level, test, root) for level, test in told]
    return tuple(RUNNERS[vendor].render(each) for each in _at_most(made))


def place_of(root: Path, vendor: Vendor, variables: Mapping[str, str]) -> str | None:
    """A directory as seen from the repository's, None where it is outside of it."""
    workspace, absolute = variables.get(RUNNERS[vendor].workspace), root.resolve()
    try:
        return absolute.relative_to(Path(workspace).resolve() if workspace else absolute).as_posix()
    except (ValueError, OSError):
        return None


def vendor_of(variables: Mapping[str, str]) -> Vendor | None:
    """Whose runner this is, by the variables of its environment."""
    for vendor, runner in RUNNERS.items():
        if variables.get(runner.variable, "").lower() == runner.value:
            return vendor
    return None


WORST_FIRST = ("over", "regressed", "error", "unchecked", "improved", "within")
# Of a test that did not fail, by its verdict: what a passed one cannot have is an error.
PASSED: Mapping[str, Level | None] = {
    **dict.fromkeys(("over", "regressed", "error", "unchecked"), "error"),
    "improved": "warning",
    "within": None,
}
LEVELS: Mapping[str, Mapping[str, Level | None]] = {
    "failed": dict.fromkeys(WORST_FIRST, "error"),
    "passed": PASSED,
    "xpassed": PASSED,
    # Allowed by a setting, or by the test itself: nothing was held against anything.
    "skipped": {**dict.fromkeys(WORST_FIRST, "warning"), "within": None},
    # An excess is what was expected; that it has grown was not.
    "xfailed": {**dict.fromkeys(WORST_FIRST), "regressed": "warning"},
}


def _level(test: TestResult) -> Level | None:
    return LEVELS[test.outcome][test.verdict]


def _of_test(level: Level, test: TestResult, root: str | None) -> Annotation:
    file = _file(test.file, root)
    return Annotation(
        level=level,
        title=f"GPU memory: {test.verdict}",
        message=_message(test),
        file=file,
        line=None if file is None else test.line,
    )


def _message(test: TestResult) -> str:
    head = f"{visible(test.nodeid, NAME_CHARACTERS)}: {visible(test.reason, LINE_CHARACTERS)}"
    lines = [head, *(visible(line, NAME_CHARACTERS) for line in evidence(test))]
    return "\n".join(lines[: SHOWN_LINES + 1])[:MESSAGE_CHARACTERS]


def _unfinished() -> Annotation:
    return Annotation(level="error", title="GPU memory: incomplete", message=UNFINISHED)


def _at_most(made: Iterable[Annotation]) -> Iterator[Annotation]:
    """The first eight of each level, and how many there were beside."""
    by_level: dict[Level, list[Annotation]] = {"error": [], "warning": []}
    for each in made:
        by_level[each.level].append(each)
    for level, those in by_level.items():
        yield from those[:MOST]
        if len(those) > MOST:
            more = f"and {len(those) - MOST} more; all are in the report"
            yield Annotation(level=level, title="GPU memory", message=more)


def _file(file: str | None, root: str | None) -> str | None:
    """The file as seen from the repository, None for one that is not within or cannot be named."""
    if not file or root is None:
        return None
    path = posixpath.normpath(posixpath.join(root, file.replace("\\", "/")))
    is_within = not path.startswith("/") and path.split("/")[0] not in ("..", ".")
    # A runner drops a "=" that a value begins with, and another name would be another file.
    can_be_named = visible(path) == path and not path.startswith("=")
    return path if is_within and can_be_named else None


def _escaped(text: str, pairs: Pairs) -> str:
    return reduce(lambda escaped, pair: escaped.replace(*pair), pairs, text)


def _github(annotation: Annotation) -> str:
    where = {"file": annotation.file, "line": annotation.line, "title": annotation.title}
    known = {name: str(value) for name, value in where.items() if value is not None}
    properties = ",".join(f"{n}={_escaped(value, GITHUB_PROPERTY)}" for n, value in known.items())
    return f"::{annotation.level} {properties}::{_escaped(annotation.message, GITHUB_DATA)}"


def _azure(annotation: Annotation) -> str:
    where = {"type": annotation.level, "sourcepath": annotation.file, "linenumber": annotation.line}
    known = {name: str(value) for name, value in where.items() if value is not None}
    properties = "".join(f"{name}={_escaped(value, AZURE)};" for name, value in known.items())
    message = f"{annotation.title}: {annotation.message}"  # there are no titles
    return f"##vso[task.logissue {properties}]{_escaped(message, AZURE)}"


RUNNERS: Mapping[Vendor, Runner] = {
    "github": Runner(
        render=_github, variable="GITHUB_ACTIONS", value="true", workspace="GITHUB_WORKSPACE"
    ),
    "azure": Runner(
        render=_azure, variable="TF_BUILD", value="true", workspace="BUILD_SOURCESDIRECTORY"
    ),
}
