"""Mistakes of users end in one line that says what was given, where, and what is right."""

import pytest

from pytest_memreq.cli import main

STEP = """
def three(batch):
    return 3

number = 3
"""

# What is given, and what the line says.
MISTAKES = {
    "gpus --nope": "unrecognized arguments: --nope; see memreq gpus --help",
    "baseline show --baseline x": "unrecognized arguments: --baseline; see memreq baseline --help",
    "estimate 7B --gpu nope": "--gpu: no card named 'nope' is known; memreq gpus lists those",
    "estimate 7B --budget abc": "--budget: 'abc' is not a limit; write",
    "estimate 7B --ranks 0": "ranks=0 is not a whole number of 1 or more",
    "estimate steps_of_mine:number": "steps_of_mine:number gave a int; it must give an nn.Module",
    "max-batch steps_of_mine:number": "step_factory=3 is no function; give one of a batch size",
    "max-batch steps_of_mine:three": "step_factory(1) gave a int; it must give a function",
    "max-batch steps_of_mine.py:three": "write package.module:name, as in an import",
    "max-batch steps_of_mine:three --gpu nope": "--gpu: no card named 'nope' is known",
    "max-batch steps_of_mine:three --budget=-1": "--budget: '-1' is not a limit; write",
    "diff other.json other.json": 'other.json: is no file of memreq: it has no "format"',
    "render": "memreq-report: is no directory of a report; pytest --memreq-report makes one",
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "steps_of_mine.py").write_text(STEP)
    (tmp_path / "other.json").write_text('{"a": 1}')
    return tmp_path


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("given", MISTAKES)
def test_a_mistake_on_the_command_line_is_one_line_and_4(capsys, given):
    assert main(given.split()) == 4
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert MISTAKES[given] in said.err


RANKS = [
    (
        {"RANK": "5", "WORLD_SIZE": "2"},
        "RANK=5: is none of the ranks of WORLD_SIZE=2; write 0 to 1",
    ),
    ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK='x': is not a number from 0 to 2147483647"),
    ({"WORLD_SIZE": "none"}, "WORLD_SIZE='none': is not a number from 1 to 2147483647"),
    ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2: no RANK says which of them this process is"),
]


@pytest.fixture
def of_ranks(monkeypatch):
    def set_all(variables):
        monkeypatch.delenv("RANK", raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_all


@pytest.mark.parametrize(
    ("test", "options"),
    [
        ("import pytest\n@pytest.mark.max_gpu_memory(1)\ndef test_it(): pass", ()),
        ("def test_it(): pass", ("--memreq-report",)),
        ("", ("--memreq-doctor",)),
    ],
)
@pytest.mark.parametrize(("variables", "said"), RANKS)
def test_ranks_that_cannot_be_end_the_run_before_any_test(
    pytester, of_ranks, test, options, variables, said
):
    pytester.makepyfile(test)
    of_ranks(variables)
    result = pytester.runpytest_inprocess(*options)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"ERROR: {said}*"])


@pytest.mark.parametrize("test", ["def test_it(): pass", "import torch\ndef test_it(): pass"])
@pytest.mark.parametrize(("variables", "_said"), RANKS)
def test_ranks_that_cannot_be_are_nothing_to_a_run_that_checks_nothing(
    pytester, of_ranks, test, variables, _said
):
    pytester.makepyfile(test)
    of_ranks(variables)
    assert pytester.runpytest_subprocess().ret == 0


@pytest.mark.parametrize(
    ("option", "variables", "said"),
    [
        ("--memreq=measure", {}, "no device to measure on; --memreq=auto simulates where there*"),
        (
            "--memreq=simulate",
            {"PYTORCH_ALLOC_CONF": "backend:cudaMallocAsync"},
            "*PYTORCH_ALLOC_CONF*: backend:cudaMallocAsync is not simulated*",
        ),
    ],
)
def test_what_leaves_a_test_unchecked_says_what_to_do(
    pytester, monkeypatch, option, variables, said
):
    pytester.makepyfile(
        """
        import pytest, torch

        @pytest.mark.max_gpu_memory("1 GiB")
        def test_it():
            torch.ones(3, device="cuda")
        """
    )
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    result = pytester.runpytest_subprocess(option)
    assert result.ret == 1
    result.stdout.fnmatch_lines([f"*memreq: unchecked: {said}"])


def test_a_card_that_is_one_tests_own_is_named_beside_it(pytester):
    pytester.makepyfile(
        """
        import pytest, torch

        @pytest.mark.max_gpu_memory("1 GiB")
        def test_default():
            torch.ones(3, device="cuda")

        @pytest.mark.max_gpu_memory("1 GiB", gpu="RTX 4090")
        def test_own():
            torch.ones(3, device="cuda")
        """
    )
    result = pytester.runpytest_subprocess("--memreq=simulate", "--memreq-report")
    assert result.ret == 0
    beside = [line for line in result.outlines if line.startswith("    simulated on NVIDIA ")]
    assert len(beside) == 1
