"""The example project's pull request goes as its README says."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "example_project"
README = (EXAMPLE / "README.md").read_text(encoding="utf-8")
LEFT = shutil.ignore_patterns("__pycache__", ".pytest_cache", "memreq-report")

pytestmark = pytest.mark.skipif(
    not torch.__version__.startswith("2.13"), reason="the baseline is of torch 2.13"
)


def shown(name):
    start = README.index("```text\n", README.index(f"<!-- output: {name} -->")) + len("```text\n")
    return README[start : README.index("```", start)].splitlines()


def change(path, before, after):
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1
    path.write_text(text.replace(before, after), encoding="utf-8")


@pytest.fixture
def project(tmp_path, monkeypatch):
    for name in ("CI", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    return Path(shutil.copytree(EXAMPLE, tmp_path / "project", ignore=LEFT))


def run(project, *options):
    command = [sys.executable, "-m", "pytest", "--no-header", "-p", "no:randomly", *options]
    done = subprocess.run(
        command, cwd=project, capture_output=True, text=True, check=False, timeout=120
    )
    return done.returncode, [line.rstrip() for line in done.stdout.splitlines()]


def contains(lines, part):
    starts = [at for at, line in enumerate(lines) if line == part[0]]
    return any(lines[at : at + len(part)] == part for at in starts)


def test_the_pull_request_fails_and_is_accepted_as_shown(project):
    change(
        project / "models" / "gpt.py", "        return logits\n", "        return logits.float()\n"
    )
    status, lines = run(project, "tests/test_training.py")
    assert status == pytest.ExitCode.TESTS_FAILED
    assert contains(lines, shown("grown")), "\n".join(lines)
    change(project / "tests" / "test_training.py", '"10 GiB"', '"11 GiB"')
    status, lines = run(project, "tests/test_training.py", "--memreq-update=failing")
    assert status == pytest.ExitCode.OK
    assert contains(lines, shown("accepted")), "\n".join(lines)
    assert run(project, "tests/test_training.py")[0] == pytest.ExitCode.OK


def test_as_it_is_it_passes_and_is_as_its_baseline(project):
    before = (project / "memreq-baseline.json").read_bytes()
    status, lines = run(project, "--memreq-update=all")
    assert status == pytest.ExitCode.OK
    assert "baseline: 7 as before" in lines
    assert (project / "memreq-baseline.json").read_bytes() == before
