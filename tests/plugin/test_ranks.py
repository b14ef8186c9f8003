"""Ranks, each a pytest of its own: the worst decides, all are shown, and none is missed."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass

import pytest

from pytest_memreq.cli import main
from pytest_memreq.gate.baseline_text import from_text
from pytest_memreq.reports.files import REPORTS
from tests.plugin.citizen import WITHOUT_TORCH
from tests.plugin.conftest import SCRIPTED

SUITE = """
import os, pytest, time

RANK = int(os.environ["RANK"])
budget = pytest.mark.max_gpu_memory(100)
"""
UNEQUAL = """
@budget
def test_a(card):
    card.allocate(50 + 20 * RANK)
"""
STEPS = """
@budget
@pytest.mark.parametrize("number", range(8))
def test_step(card, number):
    card.allocate(1 + number)
    time.sleep(0.02)
"""


@dataclass
class Suite:
    path: object
    first: tuple = ()  # options before those of the plugin

    def write(self, source):
        (self.path / "test_it.py").write_text(SUITE + textwrap.dedent(source))

    def start(self, rank, world_size, *options, **variables):
        variables = {"RANK": str(rank), "WORLD_SIZE": str(world_size), **variables}
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", *self.first, "-p", "pytest_memreq.plugin", *options],
            cwd=self.path,
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, world_size, *options, ranks=None):
        """The exit status of each rank, and what the first printed."""
        ranks = range(world_size) if ranks is None else ranks
        processes = [self.start(rank, world_size, *options) for rank in ranks]
        outputs = [process.communicate(timeout=100)[0] for process in processes]
        return [process.returncode for process in processes], outputs[0]

    def report(self):
        return json.loads((self.path / "memreq-report" / "memreq.json").read_text())

    def render(self):
        return main(["render", str(self.path / "memreq-report")])


@pytest.fixture
def suite(tmp_path, monkeypatch):
    for name in ("PYTEST_ADDOPTS", "MASTER_ADDR", "MASTER_PORT", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "conftest.py").write_text(WITHOUT_TORCH + SCRIPTED.read_text())
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\n")
    return Suite(tmp_path)


def test_the_worst_rank_decides_and_all_are_shown(suite):
    suite.write(UNEQUAL)
    statuses, output = suite.run(4, "--memreq-report")
    assert statuses == [1, 0, 0, 1]
    report = suite.report()
    (test,) = report["tests"]
    assert (report["status"], test["verdict"], test["outcome"]) == ("complete", "over", "failed")
    assert test["reason"].startswith("rank 3 of 4: allocated peak 110 bytes is over the budget")
    assert test["peak"]["allocated_bytes"] == 110
    assert [(row["rank"], row["verdict"]) for row in test["ranks"]] == [
        (0, "within"), (1, "within"), (2, "within"), (3, "over")
    ]  # fmt: skip
    assert [row["peak"]["allocated_bytes"] for row in test["ranks"]] == [50, 70, 90, 110]
    assert report["environment"]["world_size"] == 4
    assert "4 ranks, 50 B to 110 B, imbalance 37.5%" in output
    assert "1 test failed on other ranks than this one" in output
    files = {path.name for path in (suite.path / "memreq-report").iterdir()}
    assert files == set(REPORTS)
    for name in ("memreq.md", "index.html", "memreq.xml"):
        assert "rank 3" in (suite.path / "memreq-report" / name).read_text(), name
    assert suite.render() == 1


def test_without_a_report_nothing_is_left(suite):
    suite.write(UNEQUAL)
    statuses, output = suite.run(4)
    assert statuses == [1, 0, 0, 1]
    assert "rank 3 of 4: allocated peak 110 bytes is over" in output
    assert not (suite.path / "memreq-report").exists()
    assert suite.run(2)[0] == [0, 0]
    assert not (suite.path / "memreq-report").exists()


def test_ranks_that_check_nothing_wait_for_nobody_and_leave_nothing(suite):
    suite.write("def test_plain():\n    time.sleep(RANK)\n")
    statuses, output = suite.run(2)
    assert statuses == [0, 0]
    assert "GPU memory" not in output
    assert not (suite.path / "memreq-report").exists()


def test_a_rank_that_dies_makes_its_tests_errors(suite):
    suite.write("""
        @budget
        def test_a(card):
            card.allocate(1)

        @budget
        def test_b(card):
            if RANK == 1:
                os._exit(0)
            card.allocate(1)

        @budget
        def test_c(card):
            card.allocate(1)
    """)
    statuses, output = suite.run(2, "--memreq-report")
    assert statuses[0] == 1
    report = suite.report()
    tests = {test["nodeid"].rpartition("::")[2]: test for test in report["tests"]}
    assert report["status"] == "incomplete"
    assert [tests[name]["verdict"] for name in sorted(tests)] == ["within", "error", "error"]
    assert tests["test_b"]["reason"] == "rank 1 of 2: its process died while the test ran"
    assert tests["test_c"]["reason"] == "rank 1 of 2: its process died"
    assert "memreq: rank 1 of 2: its process died" in output
    assert suite.render() == 2


def test_a_rank_that_never_came_is_waited_for_and_then_missing(suite):
    suite.write(UNEQUAL)
    statuses, output = suite.run(3, "--memreq-report", "--memreq-rank-timeout=1", ranks=(0, 1))
    assert statuses == [1, 0]
    (test,) = suite.report()["tests"]
    assert test["verdict"] == "error"
    assert test["reason"].startswith("rank 2 of 3: it left nothing within 1 s")
    assert "rank 2 of 3: it left nothing within 1 s" in output


def test_what_ranks_of_an_earlier_run_left_is_not_theirs(suite):
    suite.write(UNEQUAL)
    suite.start(1, 2, "--memreq-report").communicate(timeout=60)  # no first rank takes it
    assert (suite.path / "memreq-report" / "journal-rank-1.jsonl").exists()
    statuses, _ = suite.run(2, "--memreq-report", "--memreq-rank-timeout=1", ranks=(0,))
    assert statuses == [1]
    assert suite.report()["tests"][0]["verdict"] == "error"


def test_a_rank_that_is_done_before_the_first_begins_is_no_earlier_one(suite):
    (suite.path / "slow.py").write_text(
        "import os, time\nif os.environ['RANK'] == '0':\n    time.sleep(4)\n"
    )
    suite.first = ("-p", "slow")
    suite.write(UNEQUAL)
    statuses, output = suite.run(2, "--memreq-report", "--memreq-rank-timeout=1")
    assert statuses == [0, 0], output
    assert len(suite.report()["tests"][0]["ranks"]) == 2


def test_a_directory_that_takes_no_journal_is_one_line(suite):
    (suite.path / "memreq-report").write_text("a file")
    suite.write(UNEQUAL)
    statuses, output = suite.run(2, ranks=(1,))
    assert statuses == [4]
    assert "memreq-report: cannot be written" in output
    assert "Traceback" not in output


def test_a_rank_that_hangs_is_given_up(suite):
    suite.write("""
        @budget
        def test_a(card):
            card.allocate(1)
            time.sleep(60 * RANK)
    """)
    hanging = suite.start(1, 2)
    statuses, output = suite.run(2, "--memreq-rank-timeout=1", ranks=(0,))
    assert hanging.poll() is None
    hanging.kill()
    hanging.communicate()
    assert statuses == [1]
    assert "rank 1 of 2: it said nothing for 1 s (--memreq-rank-timeout) while the test" in output


def test_a_rank_killed_at_any_moment_never_gives_a_pass(suite):
    suite.write(STEPS)
    began = time.monotonic()
    assert suite.run(2, "--memreq-report")[0] == [0, 0]
    seconds = time.monotonic() - began
    passes = 0
    for _ in range(8):
        killed = suite.start(1, 2, "--memreq-report")
        first = suite.start(0, 2, "--memreq-report", "--memreq-rank-timeout=2")
        time.sleep(random.uniform(0.1, 1.1) * seconds)
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        output, _ = first.communicate(timeout=60)
        report = suite.report()
        is_whole = report["status"] == "complete"
        verdicts = {test["verdict"] for test in report["tests"]}
        assert verdicts <= {"within", "error"}, output
        assert (first.returncode == 0) == is_whole, output
        assert ("error" in verdicts) <= (first.returncode == 1), output
        assert suite.render() == (0 if is_whole else 2)
        passes += is_whole
        ran = [test for test in report["tests"] if test["verdict"] == "within"]
        assert len(ran) == 8 or not is_whole
        assert all(len(test["ranks"]) == 2 for test in report["tests"])
    assert passes < 8  # some were killed in time


def test_a_killed_first_rank_leaves_what_all_found_out(suite, capsys):
    suite.write("""
        @budget
        def test_a(card):
            card.allocate(1 + RANK)

        @budget
        def test_b(card):
            if RANK == 0:
                os._exit(9)
            card.allocate(1)
    """)
    statuses, _ = suite.run(2, "--memreq-report")
    assert statuses == [9, 0]
    assert suite.render() == 2
    tests = {test["nodeid"]: test for test in suite.report()["tests"]}
    assert tests["test_it.py::test_a"]["peak"]["allocated_bytes"] == 2
    assert tests["test_it.py::test_b"]["verdict"] == "error"
    assert "while the test ran" in tests["test_it.py::test_b"]["reason"]


def test_a_skip_of_the_users_on_a_rank_does_not_count(suite):
    suite.write("""
        @budget
        @pytest.mark.skipif(RANK > 0, reason="of the first")
        def test_a(card):
            card.allocate(7)

        @budget
        def test_b(card):
            card.allocate(7)
    """)
    assert suite.run(2, "--memreq-report")[0] == [0, 0]
    assert [test["verdict"] for test in suite.report()["tests"]] == ["within", "within"]
    assert suite.report()["tests"][0]["ranks"][1]["reason"] == "skipped: of the first"


def test_a_test_that_a_rank_does_not_have_is_an_error(suite):
    suite.write("""
        @budget
        def test_a(card):
            card.allocate(7)

        if RANK == 0:
            @budget
            def test_b(card):
                card.allocate(7)
    """)
    statuses, _ = suite.run(2, "--memreq-report")
    assert statuses == [1, 0]
    tests = suite.report()["tests"]
    assert [test["verdict"] for test in tests] == ["within", "error"]
    assert tests[1]["reason"] == "rank 1 of 2: the test did not run there"


def test_the_baseline_is_of_the_rank_that_needs_most(suite):
    unequal = """
        @budget
        def test_a(card):
            card.allocate(({size}) // 1)
    """
    suite.write(unequal.format(size="50 + 20 * RANK"))
    statuses, output = suite.run(2, "--memreq-update=all", "--memreq-update-in-ci")
    assert statuses == [0, 0], output
    content = (suite.path / "memreq-baseline.json").read_bytes()
    (entry,) = from_text(content, "").entries
    assert entry.peak.allocated_bytes == 70
    assert entry.device.world_size == 2
    strict = ("--memreq-tolerance=0",)
    (suite.path / "pyproject.toml").write_text(
        '[tool.memreq]\ntolerance = {percent = 0, improved = "fail"}\n'
    )
    statuses, output = suite.run(2, "--memreq-report")
    assert statuses == [0, 0], output  # the first rank needs less than the entry, as ever
    assert suite.report()["tests"][0]["verdict"] == "within"
    suite.write(unequal.format(size="80 * RANK + 1"))
    statuses, output = suite.run(2, *strict)
    assert statuses == [1, 1]
    assert "rank 1 of 2: allocated peak 81 bytes is +11 bytes (+15.71%) against 70" in output
    assert "improved" not in output
    suite.write(unequal.format(size="30 + RANK"))
    assert suite.run(2, "--memreq-report", *strict)[0] == [0, 0]
    assert suite.report()["tests"][0]["verdict"] == "improved"


@pytest.mark.parametrize("given", ["x", "-1", "1.5", "", "9999999"])
def test_a_bad_timeout_is_one_line(suite, given):
    suite.write(UNEQUAL)
    statuses, output = suite.run(2, f"--memreq-rank-timeout={given}", ranks=(0,))
    assert statuses == [4]
    assert f"ERROR: --memreq-rank-timeout: '{given}' is not a number of seconds" in output


WITH_GLOO = """
import torch, torch.distributed as dist

@pytest.fixture(scope="module", autouse=True)
def group():
    dist.init_process_group("gloo")
    yield
    dist.destroy_process_group()

@budget
@pytest.mark.parametrize("number", range(3))
def test_reduces(card, number):
    tensor = torch.ones(3) * RANK
    dist.all_reduce(tensor)
    assert tensor.tolist() == [sum(range(dist.get_world_size()))] * 3
    card.allocate(10 * (number + RANK))
"""


@pytest.mark.parametrize("ranks", [2, 4])
def test_under_torchrun_with_gloo(suite, ranks):
    (suite.path / "conftest.py").write_text(SCRIPTED.read_text())
    suite.write(WITH_GLOO)
    done = torchrun(suite.path, "--standalone", f"--nproc-per-node={ranks}").communicate(
        timeout=200
    )
    report = suite.report()
    assert report["status"] == "complete", done
    assert [test["verdict"] for test in report["tests"]] == ["within"] * 3
    most = [10 * (number + ranks - 1) for number in range(3)]
    assert [test["peak"]["allocated_bytes"] for test in report["tests"]] == most
    # A rank that dies takes the others with it, and the run.
    suite.write(WITH_GLOO + "    if number == 1 and RANK == 1:\n        os._exit(3)\n")
    process = torchrun(suite.path, "--standalone", f"--nproc-per-node={ranks}")
    process.communicate(timeout=200)
    assert process.returncode == 1
    assert suite.report()["status"] == "incomplete"
    assert suite.render() == 2


def test_ranks_on_machines_that_share_no_directory_meet_in_the_store(suite, tmp_path_factory):
    (suite.path / "conftest.py").write_text(SCRIPTED.read_text())
    suite.write(WITH_GLOO)
    other = tmp_path_factory.mktemp("other machine")
    for name in ("conftest.py", "test_it.py", "pytest.ini"):
        (other / name).write_text((suite.path / name).read_text())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = ("--nnodes=2", "--master-addr=127.0.0.1", f"--master-port={port}")
    processes = [
        torchrun(path, *address, f"--node-rank={rank}", "--nproc-per-node=1")
        for rank, path in enumerate((suite.path, other))
    ]
    outputs = [process.communicate(timeout=200)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    report = suite.report()
    assert report["status"] == "complete"
    assert [len(test["ranks"]) for test in report["tests"]] == [2, 2, 2]
    assert report["tests"][0]["peak"]["allocated_bytes"] == 10


def torchrun(path, *options):
    pytest_options = ("-p", "pytest_memreq.plugin", "--memreq-report", "--memreq-rank-timeout=30")
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *options, "-m", "pytest", *pytest_options],
        cwd=path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
