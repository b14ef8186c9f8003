"""What docs/scale.md shows runs."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")


def run(*arguments):
    command = [sys.executable, "-W", "ignore", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=120, cwd=ROOT
    ).stdout


def test_the_example_runs_and_says_its_rank():
    code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL).group(1)
    assert re.fullmatch(r"rank 0 of 64: [\d,]+ bytes\n", run("-c", code))


def test_the_command_runs_in_a_small_version_and_meets_its_closed_form():
    assert "python -m benchmarks.ranks" in PAGE
    off = re.search(
        r"\| simulated \| [\d,]+ \(([+-][\d.]+)%\) \|", run("-m", "benchmarks.ranks", "--small")
    )
    assert abs(float(off.group(1))) < 2
