"""With pytest-xdist: every way to divide tests, and workers that die."""

import pytest

from tests.plugin.citizen import VERDICTS

XDIST = ("-p", "xdist.plugin")


@pytest.mark.parametrize("dist", ["load", "loadscope", "loadfile", "loadgroup", "worksteal"])
def test_however_tests_are_divided_the_verdicts_are_the_same(runs, dist):
    result = runs.process(*XDIST, "-n2", f"--dist={dist}")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert (runs.status, runs.verdicts) == ("complete", VERDICTS)
    result.stdout.fnmatch_lines(["*= GPU memory =*", "*1 failed, 2 passed, 1 skipped, 1 xfailed*"])


def test_where_each_worker_runs_every_test_the_worst_counts(runs):
    runs.write(
        """
import os

@pytest.mark.max_gpu_memory(1000)
@pytest.mark.parametrize("worker", ["gw0", "gw1"])
def test_step(card, worker):
    card.allocate(1001 if os.environ["PYTEST_XDIST_WORKER"] == worker else 10)
"""
    )
    result = runs.process(*XDIST, "--dist=each", "--tx", "2*popen")
    result.assert_outcomes(failed=2, passed=2)
    assert runs.verdicts == dict.fromkeys(("test_step[gw0]", "test_step[gw1]"), ("over", "failed"))


CRASHES = """
import os

@pytest.mark.max_gpu_memory(1000)
def test_first(card):
    card.allocate(1)

@pytest.mark.max_gpu_memory(1000)
def test_exits(card):
    os._exit(0)

@pytest.mark.max_gpu_memory(1000)
def test_is_killed(card):
    os.kill(os.getpid(), 9)

@pytest.fixture
def broken_at_the_end():
    yield
    os._exit(0)

@pytest.mark.max_gpu_memory(1000)
def test_dies_in_its_teardown(card, broken_at_the_end):
    card.allocate(1)

def test_unmarked_is_killed():
    os.kill(os.getpid(), 9)

@pytest.mark.max_gpu_memory(1000)
def test_last(card):
    card.allocate(1)
"""


@pytest.mark.parametrize("options", [(), ("-p", "pytest_rerunfailures")], ids=["plain", "reruns"])
def test_a_test_whose_worker_died_is_an_error_and_the_others_are_whole(runs, options):
    runs.write(CRASHES)
    result = runs.process(*XDIST, *options, "-n1")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert runs.verdicts == {
        **dict.fromkeys(("test_first", "test_last"), ("within", "passed")),
        **dict.fromkeys(
            ("test_exits", "test_is_killed", "test_dies_in_its_teardown"), ("error", "failed")
        ),
    }
    result.stdout.fnmatch_lines(["error *test_exits", "*the worker that ran it died*"])


def test_a_crash_in_a_run_without_budgets_is_none_of_ours(runs):
    runs.write("import os\n\ndef test_dies():\n    os._exit(0)\n")
    result = runs.process(*XDIST, "-n1")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert runs.verdicts == {}
    result.stdout.no_fnmatch_line("error*test_dies*")


def test_where_no_worker_came_to_its_end_a_crash_counts(runs):
    runs.write("import os\n\n@pytest.mark.max_gpu_memory(1)\ndef test_dies():\n    os._exit(0)\n")
    result = runs.process(*XDIST, "-n1", "--max-worker-restart=0")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert runs.verdicts == {"test_dies": ("error", "failed")}


def test_a_parallel_run_that_stops_early_reports_what_ran(runs):
    runs.write(
        """
@pytest.mark.max_gpu_memory(1000)
@pytest.mark.parametrize("number", range(20))
def test_step(card, number):
    card.allocate(1001)
"""
    )
    result = runs.process(*XDIST, "-n2", "--maxfail=1")
    assert result.ret in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED)
    assert 1 <= len(runs.verdicts) < 20
    assert set(runs.verdicts.values()) == {("over", "failed")}
