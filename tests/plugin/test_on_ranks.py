"""`ranks=2`: a test on ranks that nobody else started."""

import json

import pytest

BUDGET = "import os, pytest, torch\nimport torch.distributed as dist\n"
REDUCES = """
@pytest.mark.max_gpu_memory(100, ranks=2)
def test_reduces(card):
    rank = int(os.environ["RANK"])
    dist.init_process_group("gloo")
    tensor = torch.ones(3) * rank
    dist.all_reduce(tensor)
    assert tensor.tolist() == [1.0] * 3
    card.allocate({size})
    dist.destroy_process_group()
"""
PLAIN = """
@pytest.mark.max_gpu_memory(100)
def test_plain(card):
    assert "RANK" not in os.environ
    card.allocate(10)
"""


def found_by(pytester):
    report = json.loads((pytester.path / "memreq-report" / "memreq.json").read_text())
    return {test["nodeid"].rpartition("::")[2]: test for test in report["tests"]}


def test_each_rank_runs_it_and_the_worst_decides(scripted):
    scripted.makepyfile(test_a=BUDGET + PLAIN + REDUCES.format(size="105 + 5 * rank"))
    result = scripted.runpytest("--memreq-report", "--memreq-update=all", "--memreq-update-in-ci")
    result.assert_outcomes(passed=1, failed=1)
    tests = found_by(scripted)
    test = tests["test_reduces"]
    assert test["verdict"] == "over"
    assert test["reason"].startswith("rank 1 of 2: allocated peak 110 bytes is over the budget")
    assert [row["peak"]["allocated_bytes"] for row in test["ranks"]] == [105, 110]
    assert {row["gpu"] for row in test["ranks"]} == {"Scripted card"}
    assert tests["test_plain"]["ranks"] is None
    result.stdout.fnmatch_lines(["*test_reduces: allocated peak 110 bytes is over the budget of*"])


def test_its_baseline_is_of_its_ranks(scripted):
    scripted.makepyfile(test_a=BUDGET + REDUCES.format(size="50 + 20 * rank") + PLAIN)
    options = ("--memreq-update=all", "--memreq-update-in-ci")
    assert scripted.runpytest(*options).ret == 0
    content = json.loads((scripted.path / "memreq-baseline.json").read_text())
    entries = {each["nodeid"]: each for each in content["entries"] if isinstance(each, dict)}
    found = {
        nodeid.rpartition("::")[2]: (each["device"]["world_size"], each["peak"]["allocated_bytes"])
        for nodeid, each in entries.items()
    }
    assert found == {"test_reduces": (2, 70), "test_plain": (1, 10)}
    assert scripted.runpytest("--memreq-report").ret == 0
    scripted.makepyfile(test_a=BUDGET + REDUCES.format(size="50 + 21 * rank") + PLAIN)
    result = scripted.runpytest("--memreq-report", "--memreq-tolerance=0")
    result.assert_outcomes(passed=1, failed=1)
    assert found_by(scripted)["test_reduces"]["verdict"] == "regressed"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("os._exit(3)", "rank 1 of 2: the test's own process ended with 3 before the test did"),
        (
            "os.kill(os.getpid(), 9)",
            "rank 1 of 2: the test's own process ended with -9 before the test did",
        ),
        ("raise ValueError('x')", "rank 1 of 2: the test raised ValueError"),
    ],
)
def test_a_rank_that_dies_ends_the_test_and_not_the_run(scripted, monkeypatch, line, reason):
    monkeypatch.setattr("pytest_memreq.plugin.on_ranks.GRACE_SECONDS", 0.5)
    dies = f"""
@pytest.mark.max_gpu_memory(100, ranks=2)
def test_dies(card):
    import time
    card.allocate(1)
    if os.environ["RANK"] == "1":
        {line}
    time.sleep(60)
"""
    scripted.makepyfile(test_a=BUDGET + dies + PLAIN)
    result = scripted.runpytest("--memreq-report")
    result.assert_outcomes(passed=1, failed=1)
    test = found_by(scripted)["test_dies"]
    assert (test["verdict"], test["reason"]) == ("error", reason)
    assert "was stopped" in test["ranks"][0]["reason"]


def test_on_other_ranks_than_it_is_for_it_is_unchecked(scripted, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    scripted.makepyfile(test_a=BUDGET + REDUCES.format(size=1))
    result = scripted.runpytest("--memreq-rank-timeout=0")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*unchecked: the test is for 2 ranks, and this run has 3*"])


def test_without_a_card_each_rank_is_simulated(pytester):
    pytester.makepyfile(
        test_a=BUDGET
        + """
@pytest.mark.max_gpu_memory("3 MiB", ranks=2)
def test_gathers():
    dist.init_process_group("nccl")
    mine = torch.ones(2**18, device="cuda")
    whole = torch.empty(2**19, device="cuda")
    dist.all_gather_into_tensor(whole, mine)
    extra = torch.ones(2**17 * dist.get_rank(), device="cuda")
"""
    )
    result = pytester.runpytest("--memreq-report", "--memreq=simulate")
    result.assert_outcomes(failed=1)
    test = found_by(pytester)["test_gathers"]
    sizes = [row["peak"]["allocated_bytes"] for row in test["ranks"]]
    assert sizes == [3 * 2**20, 3 * 2**20 + 2**19]
    assert (test["verdict"], test["mode"]) == ("over", "simulated")


def test_workers_of_xdist_start_ranks_too(scripted):
    scripted.makepyfile(test_a=BUDGET + PLAIN + REDUCES.format(size="10 + rank"))
    result = scripted.runpytest_subprocess("--memreq-report", "-n2", timeout=120)
    result.assert_outcomes(passed=2)
    assert found_by(scripted)["test_reduces"]["peak"]["allocated_bytes"] == 11


@pytest.mark.parametrize("given", ["1", "0", "True", "'2'", "65", "2.0"])
def test_a_bad_number_of_ranks_is_one_line(pytester, given):
    pytester.makepyfile(
        f"import pytest\n@pytest.mark.max_gpu_memory(1, ranks={given})\ndef test_a(): pass"
    )
    result = pytester.runpytest("--memreq=simulate")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: *ranks=* is not a number of processes from 2 to 64"])
