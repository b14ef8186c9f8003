"""`memreq simulate`, from outside: what it prints, and its exit codes."""

import itertools
import json

import pytest

from pytest_memreq import simulate
from pytest_memreq.cli import main

STEPS = """
import torch
from torch import nn

def step():
    model = nn.Linear(1024, 1024).cuda()
    model(torch.randn(64, 1024, device="cuda")).sum().backward()

def too_large():
    torch.empty(2**40, device="cuda")

def of_the_cpu():
    torch.ones(3)

def asks():
    print(torch.randn(1, device="cuda").item())

def waits():
    while torch.randn(1, device="cuda").item() < 1:
        pass

def breaks():
    raise ValueError("no\\ndata")

def of_a_batch(batch):
    pass

number = 3
"""
NUMBERS = itertools.count()


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """(exit code, stdout, stderr) of `memreq simulate` on a function of the steps above."""
    name = f"steps_to_simulate_{next(NUMBERS)}"
    (tmp_path / f"{name}.py").write_text(STEPS)
    monkeypatch.chdir(tmp_path)

    def run(step, *options):
        code = main(["simulate", f"{name}:{step}", *options])
        printed = capsys.readouterr()
        return code, printed.out.replace(name, "steps"), printed.err.replace(name, "steps")

    return run


def test_it_says_what_the_step_needs_as_simulate_does(run):
    code, out, err = run("step", "--gpu", "L4")
    names = {}
    exec(STEPS, names)
    found = simulate(names["step"], gpu="L4")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "simulated on NVIDIA L4 (21.96 GiB)"
    assert f"({found.peak.allocated_bytes:,} bytes)" in lines[2]
    assert lines[4].startswith("peak of allocated: backward")
    assert "parameters 4.00 MiB" in lines[5]
    assert any("aten.randn  steps.py:7" in line for line in lines)
    assert lines[-1].startswith("within: reserved peak ")
    assert lines[-1].endswith(" to spare")


@pytest.mark.parametrize(
    ("budget", "metric", "code"),
    [
        ("1 GiB", "reserved", 0),
        ("10%", "allocated", 0),
        ("1 MiB", "allocated", 1),
        ("0.001%", "requested", 1),
    ],
)
def test_a_budget_decides(run, budget, metric, code):
    found, out, _ = run("step", "--gpu=L4", "--budget", budget, "--metric", metric)
    assert found == code
    assert out.splitlines()[-1].startswith(f"{('within', 'over')[code]}: {metric} peak ")


def test_json_has_all_of_it(run):
    code, out, _ = run("step", "--json", "--world-size=4", "--rank=3")
    document = json.loads(out)
    assert code == 0
    assert (document["rank"], document["world_size"], document["verdict"]) == (3, 4, "within")
    assert document["peak"]["allocated_bytes"] == sum(
        size for size in document["breakdown"].values() if size is not None
    )
    assert document["sites"][0]["bytes"] > 0


def test_what_does_not_fit_the_card_is_1(run):
    code, out, err = run("too_large")
    assert (code, out) == (1, "")
    assert err.startswith("memreq: does not fit: steps:too_large raised OutOfMemoryError at ")


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("of_the_cpu", 'nothing was allocated on the card; does the step put anything on "cuda"?'),
        ("waits", "memreq: cannot tell: item() at "),
    ],
)
def test_what_cannot_be_told_is_2(run, step, said):
    code, out, err = run(step)
    assert code == 2
    assert said in out + err
    assert (out + err).endswith("\n")


def test_made_up_values_are_said(run):
    _, out, _ = run("asks")
    assert "note: answered with made-up values: item() at steps.py:16" in out


@pytest.mark.parametrize(
    ("step", "options", "said"),
    [
        ("breaks", (), "steps:breaks raised ValueError at "),
        ("of_a_batch", (), "missing 1 required positional argument: 'batch'"),
        ("number", (), "steps:number is a int, no function to call"),
        ("nothing", (), "steps:nothing could not be loaded"),
        ("step", ("--gpu=nope",), "--gpu: no card named 'nope' is known"),
        ("step", ("--budget=much",), "--budget: 'much' is not a limit"),
        ("step", ("--world-size=2", "--rank=5"), "rank=5 is none of 2 ranks"),
    ],
)
def test_a_mistake_is_one_line_and_4(run, step, options, said):
    code, out, err = run(step, *options)
    assert (code, out) == (4, "")
    assert said in err
    assert len(err.splitlines()) == 1
