"""What the README shows is what comes out."""

import html
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
IMPORTS = "import pytest\nimport torch\nfrom torch import nn\n\n\n"


def block(language, after=""):
    start = README.index(f"```{language}\n", README.index(after)) + len(f"```{language}\n")
    return README[start : README.index("```", start)]


@pytest.mark.skipif(not torch.__version__.startswith("2.13"), reason="shown for torch 2.13")
def test_the_first_screens_test_fails_as_shown(pytester, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    (pytester.path / "test_training.py").write_text(IMPORTS + block("python"))
    result = pytester.runpytest_subprocess("--memreq", "simulate", "--no-header")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    shown = block("text", "<!-- output: failing -->").splitlines()
    start = result.outlines.index(shown[0])
    assert result.outlines[start : start + len(shown)] == shown


def test_the_picture_of_a_terminal_shows_the_same():
    """Whatever its width: it was made by `python docs/make_pictures.py`."""
    drawn = (ROOT / "docs" / "pictures" / "terminal.svg").read_text(encoding="utf-8")
    text = "".join(html.unescape("".join(re.findall(r"<text[^>]*>([^<]*)</text>", drawn))).split())
    for line in block("text", "<!-- output: failing -->").splitlines():
        assert "".join(line.split()).strip("=") in text, line


def test_the_first_screens_test_is_six_lines():
    assert len(block("python").splitlines()) == 6


def test_the_set_up_is_two_commands_that_can_each_come_first():
    commands = block("sh", "<!-- set-up -->").splitlines()
    assert len(commands) == 2
    assert "pytest example_project --memreq-report" in commands[0]
    for command in commands:
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install")
        assert "-c constraints.txt" in command


def test_links_lead_somewhere():
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_command_named_in_the_readme_runs():
    command = [sys.executable, "-m", "pytest_memreq", "estimate", "175B"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0
    assert "3.18 TiB" in done.stdout
