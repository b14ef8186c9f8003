"""Make the pictures: `python docs/make_pictures.py`, where what they show has changed.

It needs chromium with its driver, and the extras `test` and `docs`. On the terminal is the README's
first test, on the page the example project after the pull request of its README.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

HERE = Path(__file__).parent
PICTURES = HERE / "pictures"
ROOT = HERE.parent
COLUMNS = 120
IMPORTS = "import pytest\nimport torch\nfrom torch import nn\n\n\n"
PAGE_PIXELS = (1000, 1350)
FLAGS = ("--headless=new", "--no-sandbox", "--hide-scrollbars", "--force-device-scale-factor=1")


def pytest_says(directory: Path, *options: str) -> str:
    """What a run prints, with colours."""
    command = (sys.executable, "-m", "pytest", "--memreq=simulate", "-p", "no:randomly", *options)
    environment = {k: v for k, v in os.environ.items() if k not in ("CI", "PYTEST_ADDOPTS")}
    done = subprocess.run(
        command,
        cwd=directory,
        env={**environment, "COLUMNS": str(COLUMNS)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 1:  # both pictures show a test that fails
        sys.exit(done.stdout + done.stderr)
    return done.stdout


def terminal(directory: Path) -> None:
    """The README's first test, as a terminal shows it."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    source = readme.split("```python\n", 1)[1].split("```", 1)[0]
    (directory / "test_training.py").write_text(IMPORTS + source, encoding="utf-8")
    (directory / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    said = pytest_says(directory, "--color=yes", "-p", "no:cacheprovider")
    shown = said[said.index("collected") :]
    with (directory / "nowhere").open("w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
        console.print(Text.from_ansi("$ pytest\n" + shown))
        text = console.export_svg(title="pytest", theme=DIMMED_MONOKAI, unique_id="memreq")
    fonts = text[text.index("    @font-face") : text.index("    .memreq-matrix")]
    (PICTURES / "terminal.svg").write_text(text.replace(fonts, ""), encoding="utf-8")


def page(directory: Path) -> None:
    """The report of the example project's pull request, light and dark."""
    left = shutil.ignore_patterns("__pycache__", ".pytest_cache", "memreq-report")
    project = Path(shutil.copytree(ROOT / "example_project", directory / "project", ignore=left))
    model = project / "models" / "gpt.py"
    source = model.read_text(encoding="utf-8")
    grown = source.replace("        return logits\n", "        return logits.float()\n")
    model.write_text(grown, encoding="utf-8")
    pytest_says(project, "tests/test_training.py", "--memreq-report")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    for flag in (*FLAGS, f"--user-data-dir={directory / 'profile'}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        driver.set_window_size(*PAGE_PIXELS)
        driver.get((project / "memreq-report" / "index.html").as_uri())
        for scheme in ("light", "dark"):
            feature = {"name": "prefers-color-scheme", "value": scheme}
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
            driver.save_screenshot(str(PICTURES / f"page-{scheme}.png"))
    finally:
        driver.quit()


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    for make in (terminal, page):
        with tempfile.TemporaryDirectory() as name:
            make(Path(name))
