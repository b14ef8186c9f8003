"""`memreq doctor`: what a run would do, without running it."""

from pathlib import Path

import pytest
import torch

from pytest_memreq.cli import main
from pytest_memreq.plugin.config import Settings
from pytest_memreq.plugin.doctoring import Torch, plan_of

NO_TEST = "def test_a():\n    open('ran', 'w').close()\n"
ON_CPU = Torch(version="2.13.0")
ON_CUDA = Torch(version="2.13.0", cuda="13.0")
NO_DEVICE = (
    "this torch is built for CPUs alone"
    if torch.version.cuda is None
    else "torch sees no device: no driver, no card, or CUDA_VISIBLE_DEVICES hides it"
)


@pytest.fixture
def doctor(pytester, monkeypatch, capfd):
    """Exit code, and each line by its first word's; in a project with settings."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    pytester.makepyprojecttoml('[tool.memreq]\ngpu = "L4"\n[tool.memreq.budgets]\n"*" = "1 GiB"\n')
    pytester.makepyfile(NO_TEST)

    def ask(*arguments):
        code = main(["doctor", *arguments])
        said = capfd.readouterr()
        assert not (pytester.path / "ran").exists()
        return code, said.out, said.err

    return ask


def rows(text, name):
    return [line[len(name) :].strip() for line in text.splitlines() if line.startswith(f"{name} ")]


def test_without_a_device_it_says_what_is_simulated_and_which_settings_hold(doctor, pytester):
    code, out, _ = doctor("--memreq-gpu=A10G", "-q")
    assert code == 0
    assert rows(out, "device") == [f"none: {NO_DEVICE}"]
    assert rows(out, "settings") == ["pyproject.toml"]
    assert rows(out, "setting") == [
        "gpu = 'A10G', by --memreq-gpu",
        "budgets = {'*': '1 GiB'}, by pyproject.toml",
    ]
    assert rows(out, "checked tests are") == [f"simulated on NVIDIA A10G: {NO_DEVICE}"]
    assert "advice" not in out


def test_a_device_is_measured_on(doctor, scripted):
    _, out, _ = doctor("--memreq=measure")
    assert rows(out, "device") == ["Scripted card, 9.77 KiB"]
    assert rows(out, "checked tests are") == ["measured: mode is measure, and there is a device"]


def test_where_nothing_can_be_checked_the_exit_code_is_2(doctor):
    code, out, _ = doctor("--memreq=measure")
    assert code == 2
    assert rows(out, "checked tests are") == [f"unchecked: mode is measure, and {NO_DEVICE}"]


def test_a_wrong_setting_is_one_line(doctor):
    code, out, err = doctor("--memreq-budget=many")
    assert (code, out) == (4, "")
    (line,) = err.strip().splitlines()
    assert line.startswith("ERROR: --memreq-budget, allocated: 'many' is not a limit; write")


def test_a_test_that_is_not_there_is_one_line(doctor):
    assert doctor("test_none.py::test_a") == (
        *(4, ""),
        "ERROR: file or directory not found: test_none.py::test_a\n\n",
    )
    (name,) = Path().glob("test_*.py")
    assert doctor(f"{name}::test_a", ".")[0] == 0


def test_where_the_plugin_is_not_loaded_it_says_how_to_load_it(doctor, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    code, _, err = doctor()
    assert code == 4
    assert "memreq doctor -p pytest_memreq.plugin" in err
    assert doctor("-p", "pytest_memreq.plugin")[0] == 0


def test_variables_that_matter_are_shown_and_no_others(doctor, monkeypatch):
    # Not of the allocator: a torch with CUDA reads its settings itself, and aborts.
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8\x1b[31m")
    monkeypatch.setenv("MY_SECRET", "hidden")
    _, out, _ = doctor()
    assert any("CUBLAS_WORKSPACE_CONFIG=:4096:8" in row for row in rows(out, "variable"))
    assert "hidden" not in out
    assert "\x1b" not in out


def test_its_help_is_its_own(doctor):
    code, out, _ = doctor("--help")
    assert code == 0
    assert out.startswith("usage: ")
    assert "Runs no test." in out


@pytest.mark.parametrize(
    ("mode", "devices", "lost", "torch", "begins", "can_check"),
    [
        ("off", 1, "", ON_CUDA, "not checked", True),
        ("auto", 1, "", ON_CUDA, "measured", True),
        ("auto", 0, "", ON_CUDA, "simulated on X: torch sees no device", True),
        ("auto", 0, "", ON_CPU, "simulated on X: this torch is built for CPUs", True),
        ("auto", 0, "driver too old", ON_CUDA, "unchecked: driver too old", False),
        ("simulate", 1, "", ON_CUDA, "simulated on X: mode is simulate", True),
        ("both", 1, "", ON_CUDA, "simulated, then measured", True),
        ("both", 0, "", ON_CPU, "unchecked: mode is both", False),
        ("measure", 0, "", ON_CUDA, "unchecked: mode is measure, and torch sees no", False),
    ],
)
def test_the_plan_follows_from_mode_and_devices(mode, devices, lost, torch, begins, can_check):
    plan = plan_of(Settings(mode=mode), devices, lost, "X", torch)
    assert plan.what.startswith(begins)
    assert plan.can_check == can_check
    assert bool(plan.advice) == plan.what.startswith("simulated on")
