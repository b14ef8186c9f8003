"""The largest batch that fits, by simulation: the function, the command, the fixture."""

import json

import pytest
import torch
from torch import nn

from pytest_memreq import MemreqError, max_batch
from pytest_memreq.cli import main

STEP = """
import torch
from torch import nn

def step(batch):
    model = nn.Linear(1000, 1000).cuda()
    def train():
        model(torch.randn(batch, 1000, device="cuda")).square().mean().backward()
    return train

def broken(batch):
    raise OSError("no data\\nhere")

def impossible(batch):
    return lambda: torch.cuda.utilization()

def leaving(batch):
    raise SystemExit(0)

number = 3
"""


def rows(batch):
    def step():
        x = torch.zeros(batch, 1024, device="cuda")  # 4 KiB a row
        assert x.is_cuda

    return step


def test_the_largest_batch_fits_and_the_next_does_not():
    tried = []
    found = max_batch(rows, "10 MiB", metric="requested", progress=lambda *pair: tried.append(pair))
    assert (found.value, found.needed_bytes, found.spare_bytes) == (2560, 10 * 2**20, 0)
    assert found.fits
    assert found.is_monotone
    assert dict(found.trials)[2561] == 2561 * 4096
    assert sorted(tried) == list(found.trials)  # each once
    assert len(tried) <= 2 * 12 + 1


def test_what_the_factory_makes_counts():
    def factory(batch):
        model = nn.Linear(1024, 1024, bias=False).cuda()  # 4 MiB
        return lambda: model(torch.zeros(batch, 1024, device="cuda"))

    with torch.no_grad():
        alone = max_batch(rows, "10 MiB", metric="requested").value
        with_model = max_batch(factory, 10 * 2**20 + 2**25, metric="requested").value
    assert with_model < alone / 2 + 1


def test_a_share_is_of_the_card_and_a_step_beyond_it_is_known_too():
    found = max_batch(rows, "100%", gpu="Tesla T4", metric="requested")
    assert found.budget_bytes == 15_655_829_504
    assert found.value == 15_655_829_504 // 4096
    assert max(size for _, size in found.trials) > found.budget_bytes


def test_nothing_fits():
    found = max_batch(rows, 1000)
    assert not found.fits
    assert found.value == 1
    assert found.needed_bytes >= 4096


def test_a_batch_that_needs_less_than_a_smaller_one_is_noticed():
    found = max_batch(lambda batch: rows(1 if batch == 4 else batch), "1 MiB", metric="requested")
    assert not found.is_monotone


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        (lambda _: None, r"step_factory\(1\) gave a NoneType; it must give a function"),
        (lambda _: rows(1), "any batch fits 1.00 MiB; the step does not depend on it"),
    ],
)
def test_a_factory_that_cannot_be_right_is_refused(factory, words):
    with pytest.raises(MemreqError, match=words):
        max_batch(factory, "1 MiB")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "batch_steps.py").write_text(STEP)

    def run(*words):
        code = main(["max-batch", *words])
        return code, *capsys.readouterr()

    return run


def test_the_command_says_what_it_tries_and_what_fits(run):
    code, out, err = run("batch_steps:step", "--budget", "200 MiB", "--metric", "allocated")
    assert code == 0
    assert "the largest batch that fits 200.00 MiB of allocated on NVIDIA H200: " in out
    assert out.count("\n") == 1
    assert err.startswith("batch 1: ")


def test_the_command_in_json(run):
    code, out, err = run("batch_steps:step", "--budget", "200 MiB", "--json", "--quiet")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert document["fits"]
    assert document["needed_bytes"] <= document["budget_bytes"] == 200 * 2**20


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["batch_steps:step", "--budget", "1 MiB"], 1, "not even a batch of 1 fits 1.00 MiB"),
        (["batch_steps:impossible"], 2, "cannot tell: torch.cuda.utilization"),
        (["batch_steps:broken"], 4, "batch_steps.py:{line}: no data here"),
        (["batch_steps:leaving"], 4, "batch_steps:leaving raised SystemExit at "),
        (["batch_steps:missing"], 4, "could not be loaded: AttributeError"),
        (["batch_steps"], 4, "'batch_steps' names no function"),
        (["batch_steps:number"], 4, "is no function; give one of a batch size"),
        (["batch_steps:step", "--gpu", "T5"], 4, "no card named 'T5' is known"),
        (["batch_steps:step", "--budget", "much"], 4, "'much' is not a limit"),
    ],
)
def test_what_cannot_be_answered_is_said_in_one_line(run, words, code, said):
    found, out, err = run(*words, "--quiet")
    assert found == code
    line = 1 + STEP[: STEP.index("raise OSError")].count("\n")
    assert said.format(line=line) in out + err
    assert (out + err).count("\n") == 1


def test_the_fixture_has_it(pytester):
    pytester.makepyfile(
        """
        import torch

        def test_fits(memreq):
            def rows(batch):
                return lambda: torch.zeros(batch, 1024, device="cuda")

            assert memreq.max_batch(rows, "10 MiB", metric="requested").value == 2560
        """
    )
    pytester.runpytest("-q").assert_outcomes(passed=1)
