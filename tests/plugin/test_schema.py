"""What runs write is valid for the published schemas, with every verdict."""

from pathlib import Path

import pytest

from pytest_memreq.gate.verdict import VERDICT_WORDS
from tests.plugin.reports_of import results_of
from tests.reports.schemas import errors_of

SUITE = """
import pytest
from conftest import BACKEND

@pytest.mark.max_gpu_memory(9000)
def test_within(card):
    card.allocate(10)

@pytest.mark.max_gpu_memory({over})
def test_over(card):
    card.allocate(20)

@pytest.mark.max_gpu_memory()
def test_regressed(card):
    card.allocate({regressed})

@pytest.mark.max_gpu_memory()
def test_improved(card):
    card.allocate({improved})

@pytest.mark.max_gpu_memory(9000)
def test_unchecked(card):
    {unchecked}

@pytest.mark.max_gpu_memory(9000)
def test_error(card):
    card.allocate(30)
    {error}

@pytest.mark.max_gpu_leak(0, warmup=1, repeats=1)
@pytest.mark.parametrize("name", ["##[error]\\x1b[31m\\n\\U0001f600"])
def test_leaks(name):
    BACKEND.allocate(10)
"""
BEFORE = {
    "over": 9000,
    "regressed": 30,
    "improved": 30,
    "unchecked": "card.allocate(1)",
    "error": "",
}
AFTER = {
    "over": 19,
    "regressed": 31,
    "improved": 29,
    "unchecked": "pass",
    "error": "raise ValueError",
}
FILES = {"memreq": "memreq-report/memreq.json", "memreq-baseline": "memreq-baseline.json"}


def is_valid(pytester, name):
    return not errors_of(name, (Path(pytester.path) / FILES[name]).read_text())


@pytest.fixture
def local(monkeypatch):
    for name in ("CI", "RANK"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("local")
def test_a_run_with_every_verdict_writes_what_is_valid(scripted):
    scripted.makepyprojecttoml("[tool.memreq]\ntolerance = 0")
    scripted.makepyfile(test_suite=SUITE.format(**BEFORE))
    scripted.runpytest("--memreq-update=new").assert_outcomes(passed=6, failed=1)
    assert is_valid(scripted, "memreq-baseline")
    scripted.makepyfile(test_suite=SUITE.format(**AFTER))
    scripted.runpytest("--memreq-report").assert_outcomes(passed=2, failed=5)
    assert {test["verdict"] for test in results_of(scripted).values()} == {*VERDICT_WORDS}
    assert is_valid(scripted, "memreq")


@pytest.mark.usefixtures("local")
def test_a_simulated_run_writes_what_is_valid(pytester):
    pytester.makepyfile(
        """
        import pytest
        import torch

        @pytest.mark.max_gpu_memory(2**20, reserved="80%")
        def test_step():
            model = torch.nn.Linear(1024, 1024, device="cuda")
            model(torch.randn(64, 1024, device="cuda")).sum().backward()

        @pytest.mark.max_gpu_memory("1 GiB")
        def test_value():
            assert torch.randn(4, device="cuda").sum().item() == 5
        """
    )
    options = ("--memreq=simulate", "--memreq-report", "--memreq-update=new")
    pytester.runpytest(*options).assert_outcomes(failed=2)
    tests = results_of(pytester)
    assert tests["test_step"]["sites"]
    assert [tests[name]["verdict"] for name in ("test_step", "test_value")] == ["over", "unchecked"]
    assert is_valid(pytester, "memreq")


def test_a_run_of_nothing_writes_what_is_valid(scripted):
    scripted.makepyfile("def test_a(): pass")
    scripted.runpytest("--memreq-report").assert_outcomes(passed=1)
    assert is_valid(scripted, "memreq")
