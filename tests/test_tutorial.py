"""The tutorial goes as it says, line by line."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.tutorial import Change, Command, File, missing, steps_of

PAGE = Path(__file__).parent.parent / "docs" / "tutorial.md"
STEPS = list(steps_of(PAGE.read_text(encoding="utf-8")))
MODULES = {"pytest": "pytest", "memreq": "pytest_memreq"}
QUIET = "-p no:randomly -p no:cacheprovider"

pytestmark = pytest.mark.skipif(
    not torch.__version__.startswith("2.13") or torch.version.cuda is not None,
    reason="shown for a CPU build of torch 2.13",
)


def run(directory, words):
    command = [sys.executable, "-m", MODULES[words[0]], *words[1:]]
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, check=False, timeout=120
    )
    return done.returncode, [line.rstrip() for line in done.stdout.splitlines()]


def test_every_command_gives_what_is_shown(tmp_path, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("PYTEST_ADDOPTS", QUIET)
    for step in STEPS:
        if isinstance(step, File):
            (tmp_path / step.path).write_text(step.text, encoding="utf-8")
        elif isinstance(step, Change):
            text = (tmp_path / step.path).read_text(encoding="utf-8")
            assert text.count(step.before) == 1, step
            (tmp_path / step.path).write_text(text.replace(step.before, step.after))
        else:
            code, lines = run(tmp_path, step.words)
            assert code == step.code, (step.words, lines)
            assert missing(step.lines, lines) is None, (step.words, "\n".join(lines))


def test_there_is_something_to_run():
    kinds = [type(step) for step in STEPS]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {File: 4, Change: 2, Command: 7}


def test_a_line_that_does_not_come_is_found():
    lines = ["a", "b", "c", "d"]
    assert missing(("a", "...", "c"), lines) is None
    assert missing(("...", "d", "..."), lines) is None
    assert missing(("a", "c"), lines) == "c"
    assert missing(("...", "x"), lines) == "x"
    assert missing(("c", "...", "a"), lines) == "c"
