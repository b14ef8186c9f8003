"""What the how-to pages show is what comes out; `tests/test_tutorial.py` follows the tutorial."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pytest_memreq.cli import main
from pytest_memreq.gate import baseline_text
from pytest_memreq.plugin.options import DOCTOR, OPTIONS, option_name
from pytest_memreq.requirement import Breakdown, Peak, Site
from pytest_memreq.results import to_json
from pytest_memreq.simulate import calibration
from tests.test_cli_diff import GIB, of_tests, result

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [*ROOT.glob("*.md"), *DOCS.glob("*.md"), ROOT / "example_project" / "README.md"]
}
IS_SHOWN_FOR = torch.__version__.startswith("2.13")


FENCED = re.compile(r"^```([a-z{}]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page, language=""):
    """What stands in the page's blocks of that language, in order."""
    found = FENCED.findall(PAGES[f"docs/{page}.md"])
    return [text for its_language, text in found if its_language == language]


def pytest_here(directory, *options):
    environment = {k: v for k, v in os.environ.items() if k not in ("CI", "PYTEST_ADDOPTS")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("page", PAGES)
def test_options_of_pytest_that_a_page_names_are_there(page):
    known = {option_name(key) for key in OPTIONS} | {DOCTOR}
    assert set(re.findall(r"--memreq(?:-[a-z]+)*\b", PAGES[page])) <= known


def code_on(page):
    """Its lines, and what is set off within them."""
    text = PAGES[page]
    for _, lines in FENCED.findall(text):
        yield from lines.splitlines()
    yield from re.findall(r"^    (.*)$", text, re.MULTILINE)
    yield from re.findall(r"`([^`\n]+)`", text)


COMMAND = re.compile(r"(?:^|/|& |run: )memreq (baseline [a-z]+|[a-z-]+)\b([^#|&]*)")


def commands_of(page):
    """(words, options) of each `memreq ...` in code."""
    for found in filter(None, map(COMMAND.search, code_on(page))):
        yield found[1].split(), re.findall(r"(?<![-\w])--[a-z][a-z-]*", found[2])


@pytest.mark.parametrize("page", [page for page in PAGES if [*commands_of(page)]])
def test_commands_that_a_page_names_are_there_with_their_options(page, capsys):
    for words, options in commands_of(page):
        if words == ["doctor"]:  # it takes those of pytest
            continue
        try:
            status = main([*words, "--help"])
        except SystemExit as ended:
            status = ended.code
        shown = capsys.readouterr()
        assert status == 0, (words, shown.err)
        assert all(option in shown.out for option in options), (words, options)


STEP = '''\
import pytest
import torch

from model import Net, train


def test_step():
    torch.cuda.reset_peak_memory_stats()
    net = Net().cuda()

    train(net)

    torch.cuda.synchronize()
    assert torch.cuda.max_memory_allocated() / 2 ** 30 < 12


class Cache:
    """Of activations."""

    def __init__(self):
        self.kept = []


def test_cache():
    net, cache = Net().cuda(), Cache()
    before = torch.cuda.memory_allocated()
    cache.kept.append(net(torch.ones(10, device="cuda")))
    cache.kept.clear()

    after = torch.cuda.memory_allocated()
    assert after <= before
'''


def test_adopt_finds_what_is_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_step.py").write_text(STEP)
    assert main(["adopt", "tests/"]) == 1  # there is something to do
    assert capsys.readouterr().out == blocks("adopt")[0]


def attention(*, is_grown):
    """A step whose attention keeps its scores, or does not."""
    scores = Site(
        bytes=2 * GIB,
        category="activations",
        module="layers.3.attn",
        shape=(8, 16, 2048, 2048),
        dtype="float32",
        source="model.py:88",
    )
    weights = Site(bytes=10 * GIB, category="parameters", module="layers")
    value = Site(
        bytes=32 * 2**20,
        category="activations",
        module="layers.3.attn",
        shape=(8, 16, 2048, 64),
        dtype="bfloat16",
        source="model.py:87",
    )
    kept = 2 * GIB * is_grown
    return result(
        "tests/test_step.py::test_step",
        peak=Peak(allocated_bytes=10 * GIB + kept + value.bytes, reserved_bytes=11 * GIB + kept),
        breakdown=Breakdown(parameters_bytes=10 * GIB, activations_bytes=kept + value.bytes),
        sites=(weights, value, *[scores] * is_grown),
    )


def test_diff_says_what_is_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    others = [result(f"tests/test_other.py::test_{at}", GIB) for at in range(12)]
    for name in ("base", "head"):
        tests = [attention(is_grown=name == "head"), *others]
        (tmp_path / f"{name}.json").write_text(to_json(of_tests(tests)))
    assert main(["diff", "base.json", "head.json"]) == 1
    assert capsys.readouterr().out == blocks("diff")[0]


@pytest.mark.parametrize("page", ["baselines", "configuration"])
def test_settings_that_are_shown_are_settings(page, pytester):
    for shown in blocks(page, "toml"):
        pytester.makefile(".toml", pyproject=shown)
        done = pytest_here(pytester.path, "--memreq-doctor")
        assert done.returncode == 0, done.stderr
        for key in re.findall(r"^\[tool\.memreq\.([a-z]+)\]|^([a-z_]+) =", shown, re.MULTILINE):
            assert f"setting            {''.join(key)} = " in done.stdout


@pytest.mark.parametrize("at", [0, 1])
def test_markers_that_are_shown_are_markers(pytester, at):
    marker = blocks("configuration", "python")[at]
    pytester.makepyfile(f"import pytest\n\n{marker}def test_step():\n    pass\n")
    done = pytest_here(pytester.path, "--collect-only", "-q")
    assert done.returncode == 0, done.stderr
    assert "1 test collected" in done.stdout


def test_the_simulation_that_is_shown_runs():
    model = "import torch\n\n\nclass Net(torch.nn.Linear):\n    def __init__(self):\n"
    model += "        super().__init__(784, 10)\n"
    names = {}
    exec(model + blocks("configuration", "python")[2], names)
    assert names["found"].card.name == "NVIDIA L4"


@pytest.mark.skipif(not IS_SHOWN_FOR, reason="shown for torch 2.13")
def test_the_doctor_says_what_is_shown(tmp_path):
    left = shutil.ignore_patterns("__pycache__", ".pytest_cache", "memreq-report")
    project = Path(tmp_path, "example_project")
    shutil.copytree(ROOT / "example_project", project, ignore=left)
    done = pytest_here(tmp_path, "example_project", "--memreq-doctor")
    (shown,) = [block for block in blocks("configuration", "text") if "card to pretend" in block]
    here = ("Python", "pytest", "memreq", "torch", "device", "checked tests are")

    def of_the_project(text):
        return [line for line in text.splitlines() if not line.startswith(here)]

    assert of_the_project(done.stdout) == of_the_project(shown)
    heads = [[line[:18] for line in text.splitlines()] for text in (done.stdout, shown)]
    assert heads[0] == heads[1]


def test_the_baseline_that_is_shown_is_one():
    (shown,) = blocks("baselines", "text")
    whole = re.sub(r"\n  \.\.\.", "", shown)
    categories = re.search(r'"breakdown": \{(.*?)\}?,\n', whole)
    assert categories
    whole = whole.replace(categories[0], '"breakdown": null,\n')
    (entry,) = baseline_text.from_text(whole.encode(), "shown").entries
    assert (entry.nodeid, entry.peak.allocated_bytes) == ("tests/test_gpt.py::test_step", 296945152)


def test_the_calibration_that_is_shown_is_one():
    (shown,) = blocks("measuring", "json")
    assert calibration.from_text(shown.encode(), "shown").cublas_workspace_bytes == 32 * 2**20


def test_the_program_that_reads_a_report_reads_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "memreq-report").mkdir()
    (tmp_path / "memreq-report" / "memreq.json").write_text(to_json(of_tests([result()])))
    (shown,) = blocks("reports", "python")
    exec(shown, {})
    assert capsys.readouterr().out == f"test_a.py::test_a within {GIB}\n"


LLAMA_3_70B = {
    "model_type": "llama",
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
}


def test_layouts_by_formula_are_those_that_are_shown(tmp_path, monkeypatch, capsys):
    """But for what was simulated of the best three, which takes half a minute."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_3_70B))
    command = re.search(
        r"^    memreq (solve config.json .*)$", PAGES["docs/scale.md"], re.MULTILINE
    )
    assert command
    options = [word.strip('"') for word in re.findall(r'"[^"]+"|\S+', command[1])]
    assert main([*options, "--finalists", "0", "--quiet"]) == 0
    columns = slice(0, 65)  # up to the formula's
    found = {line[columns].rstrip() for line in capsys.readouterr().out.splitlines()}
    (shown,) = [block for block in blocks("scale") if block.startswith("ZeRO")]
    rows = [line for line in shown.splitlines() if line.startswith("   ")]
    assert len(rows) == 6
    assert {line[columns].rstrip() for line in rows} <= found
