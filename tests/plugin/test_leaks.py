"""`max_gpu_leak`: what each run of a test leaves behind."""

import gc

import pytest

from tests.plugin.reports_of import results_of


def run(pytester, source, *options):
    pytester.makepyfile(test_suite=f"import pytest\nfrom conftest import BACKEND\n{source}")
    return pytester.runpytest("--memreq-report", *options)


def test_a_test_that_grows_each_time_fails_with_what_each_repeat_left(scripted):
    result = run(
        scripted,
        """
@pytest.mark.max_gpu_leak(0)
def test_leaks():
    BACKEND.allocate(10)
""",
    )
    result.assert_outcomes(failed=1)
    test = results_of(scripted)["test_leaks"]
    assert test["verdict"] == "over"
    assert test["reason"] == (
        "leaks 10 bytes each time it runs, over the limit of 0 bytes "
        "(bytes left by 3 repeats: +10, +10, +10)"
    )
    assert test["leaked_bytes"] == 40
    result.stdout.fnmatch_lines(["E *MemoryBudgetExceeded: *leaks 10 bytes each time*"])


@pytest.mark.parametrize(
    ("marker", "body"),
    [
        ("0", "card.allocate(10); card.free(10)"),
        ('"0 B"', "card.multiply()"),  # a workspace is no leak
        ("0", "CACHE or CACHE.append(card.allocate(10))"),  # nor is what the first run makes
        ("0, warmup=2", "len(CACHE) < 2 and CACHE.append(card.allocate(10))"),
        ("10", "card.allocate(10)"),
        ("0", "card.allocate(10); garbage()"),
    ],
)
def test_what_is_no_leak(scripted, marker, body):
    run(
        scripted,
        f"""
CACHE = []

class Held:
    def __init__(self):
        self.itself = self

    def __del__(self):
        BACKEND.free(10)

def garbage():
    Held()

@pytest.mark.max_gpu_leak({marker})
def test_step(card):
    {body}
""",
    ).assert_outcomes(passed=1)
    assert results_of(scripted)["test_step"]["verdict"] == "within"


def test_the_number_of_runs_is_as_asked(scripted):
    run(
        scripted,
        """
RUNS = []

@pytest.mark.max_gpu_leak(0, warmup=2, repeats=4)
def test_step(card):
    RUNS.append(1)
    card.allocate(5)
    card.free(5)

def test_count():
    assert len(RUNS) == 6
""",
    ).assert_outcomes(passed=2)


def test_a_leak_within_its_limit_is_held_against_the_budget_as_well(scripted):
    run(
        scripted,
        """
@pytest.mark.max_gpu_memory(99)
@pytest.mark.max_gpu_leak(0)
def test_step(card):
    card.allocate(100)
    card.free(100)
""",
    ).assert_outcomes(failed=1)
    assert "allocated peak 100 bytes is over" in results_of(scripted)["test_step"]["reason"]


def test_a_repeat_that_fails_is_the_tests_own_failure(scripted):
    result = run(
        scripted,
        """
RUNS = []

@pytest.mark.max_gpu_leak(0)
def test_step(card):
    card.allocate(5)
    RUNS.append(1)
    assert len(RUNS) < 2
""",
    )
    result.assert_outcomes(failed=1)
    assert results_of(scripted)["test_step"]["verdict"] == "error"
    result.stdout.fnmatch_lines(["E *assert 2 < 2"])


SIMULATED = """
    import pytest
    import torch
    from torch import nn

    CACHE = []

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(64, 64)
            self.losses = []

    @pytest.mark.max_gpu_leak("0 B")
    def test_keeps_losses():
        model = nn.Linear(64, 64).cuda()
        loss = model(torch.randn(8, 64, device="cuda")).sum()
        loss.backward()
        CACHE.append(loss.detach())

    @pytest.mark.max_gpu_leak("0 B")
    def test_steps(net):
        net(torch.randn(8, 64, device="cuda")).sum().backward()
        net.zero_grad(set_to_none=False)

    @pytest.fixture
    def net():
        return nn.Linear(64, 64).cuda()
"""


def test_simulated_survivors_are_named_with_where_they_were_made_and_who_holds_them(pytester):
    gc.unfreeze()  # the run sets aside what pytester noted of its collection
    pytester.makepyfile(test_suite=SIMULATED)
    result = pytester.runpytest("--memreq-report")
    result.assert_outcomes(failed=1, passed=1)
    tests = results_of(pytester)
    assert tests["test_steps"]["verdict"] == "within"
    test = tests["test_keeps_losses"]
    assert test["reason"].startswith("leaks 512 bytes each time it runs")
    (survivor,) = test["survivors"]
    # pytester's records of hook calls hold the module, and with it the list, as well.
    survivor["referrers"] = survivor["referrers"][:1]
    assert survivor == {
        "bytes": 12,
        "shape": [],
        "dtype": "float32",
        "source": "test_suite.py:16",
        "referrers": ["a list, CACHE of test_suite"],
        "count": 3,
    }
    result.stdout.fnmatch_lines(
        ["*still alive, largest first:*", "*3 x () float32  test_suite.py:16  held by a list*"]
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", "0 limits given; write max_gpu_leak(*0 B*)"),
        ("1, 2", "2 limits given"),
        ('"5 MBps"', "'5 MBps'"),
        ('"80%"', "'80%'"),
        ("0, repeats=0", "repeats=0 is not a number from 1 to 1000"),
        ("0, warmup=True", "warmup=True is not a number from 1 to 1000"),
        ("0, repeat=3", "unknown 'repeat'; known are warmup, repeats"),
    ],
)
def test_a_badly_written_marker_ends_the_run(scripted, arguments, words):
    result = run(
        scripted, f"@pytest.mark.max_gpu_leak({arguments})\ndef test_step(card):\n    pass\n"
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *::test_step: max_gpu_leak: {words}*"])


def test_what_others_left_and_goes_away_makes_up_for_no_leak(scripted):
    run(
        scripted,
        """
LEFT = []

def test_leaves_something():
    LEFT.extend(BACKEND.allocate(100) for _ in range(4))

@pytest.mark.max_gpu_leak(0)
def test_leaks():
    BACKEND.blocks.pop(LEFT.pop())
    BACKEND.allocate(10)
""",
    ).assert_outcomes(passed=1, failed=1)
    assert "+10, +10, +10" in results_of(scripted)["test_leaks"]["reason"]
