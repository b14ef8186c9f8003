"""What a page shows: files, changes of them, and commands with their output."""

import re
import shlex
from dataclasses import dataclass

STEP = re.compile(
    r"<!-- (?P<what>file|change|run)(?:: (?P<path>[\w.]+))?(?:: (?P<before>.+?) -> (?P<after>.+?))?"
    r"(?:, exit (?P<code>\d))? -->(?:\n```\w+\n(?P<text>.*?)```)?",
    re.DOTALL,
)


@dataclass(frozen=True)
class File:
    """One to write."""

    path: str
    text: str


@dataclass(frozen=True)
class Change:
    """In a file, one text for another."""

    path: str
    before: str
    after: str


@dataclass(frozen=True)
class Command:
    """One to run, its exit code, and lines of its output; `...` is any lines."""

    words: tuple[str, ...]
    code: int
    lines: tuple[str, ...]


def steps_of(page):
    """All of a page, in order."""
    for step in STEP.finditer(page):
        if step["what"] == "file":
            yield File(step["path"], step["text"])
        elif step["what"] == "change":
            yield Change(step["path"], step["before"], step["after"])
        else:
            command, *lines = step["text"].splitlines()
            words = tuple(shlex.split(command.removeprefix("$ ")))
            yield Command(words, int(step["code"] or 0), tuple(lines))


def missing(shown, lines):
    """The first shown line that does not come where it should, None if all do."""
    at, may_skip = 0, False
    for line in shown:
        if line == "...":
            may_skip = True
            continue
        found = [n for n in range(at, len(lines)) if lines[n] == line]
        if not found or (found[0] > at and not may_skip):
            return line
        at, may_skip = found[0] + 1, False
    return None
