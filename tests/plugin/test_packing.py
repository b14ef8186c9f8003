"""Workers that share cards: a test begins once there is room for its budget."""

import json
import os
from itertools import pairwise

import pytest

from tests.plugin.citizen import WITHOUT_TORCH
from tests.plugin.conftest import SCRIPTED

# Cards by CUDA_VISIBLE_DEVICES, as torch sees them; and a log of our own, a line an event, of which
# the kernel makes none of two.
LOGGED = """
import os, time

def names():
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")

BACKENDS = [ScriptedBackend(index) for index in range(len(names()))]
BACKEND = BACKENDS[0]

def pytest_memreq_backend(config):
    return BACKENDS

def log(what, size, card=None):
    line = f"{time.monotonic_ns()} {what} {card or names()[0]} {size} {os.getpid()}\\n"
    with open(os.environ["MEMREQ_LOG"], "a") as file:
        file.write(line)

@pytest.fixture
def room(card):
    sizes = []
    def use(size, seconds=0.0):
        log("+", size)
        sizes.append(size)
        card.allocate(size)
        time.sleep(seconds)
    yield use
    for size in sizes:
        log("-", size)
"""


class Shared:
    def __init__(self, pytester, monkeypatch):
        self.pytester, self.monkeypatch = pytester, monkeypatch
        self.path = pytester.path / "log"
        self.path.touch()
        monkeypatch.setenv("MEMREQ_LOG", str(self.path))
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        monkeypatch.delenv("PYTEST_ADDOPTS")
        for name in [name for name in os.environ if name.startswith("PYTEST_XDIST_")]:
            monkeypatch.delenv(name)  # of the worker that this may run in

    def write(self, source):
        self.pytester.makepyfile(
            test_suite="import os, pytest, signal, time\nfrom conftest import BACKEND, log\n"
            + source
        )

    def run(self, *given, cards="0", options=("--memreq-report",)):
        self.monkeypatch.setenv("CUDA_VISIBLE_DEVICES", cards)
        loaded = ("-p", "pytest_memreq.plugin", "-p", "xdist.plugin")
        return self.pytester.runpytest_subprocess(*loaded, *options, *given, timeout=60)

    @property
    def report(self):
        return json.loads((self.pytester.path / "memreq-report" / "memreq.json").read_text())

    @property
    def tests(self):
        return {test["nodeid"].rpartition("::")[2]: test for test in self.report["tests"]}

    def events(self):
        """Time, sign, card, size and process, in order of time."""
        lines = [line.split() for line in self.path.read_text().splitlines()]
        return sorted((int(at), sign, card, int(n), pid) for at, sign, card, n, pid in lines)

    def most(self):
        """The most bytes that tests had of a card at any moment, by the log of the tests."""
        now, most = {}, {}
        for _, sign, card, size, _ in self.events():
            now[card] = now.get(card, 0) + (size if sign == "+" else -size)
            most[card] = max(most.get(card, 0), now[card])
        return most


@pytest.fixture
def shared(pytester, monkeypatch):
    pytester.makeconftest(WITHOUT_TORCH + SCRIPTED.read_text() + LOGGED)
    return Shared(pytester, monkeypatch)


MANY = """
SIZES = [6000, 3000, 5000, 2000, 9000, 4000, 1000, 7000, 10_000, 3000, 2000, 5000]

@pytest.mark.parametrize(
    "size", [pytest.param(s, marks=pytest.mark.max_gpu_memory(s)) for s in SIZES]
)
def test_step(room, size):
    room(size, 0.05)
"""


def test_tests_never_have_more_of_a_card_than_it_has(shared):
    shared.write(MANY)
    result = shared.run("-n3")
    result.assert_outcomes(passed=12)
    most = shared.most()["0"]
    assert most <= 10_000
    assert len({pid for *_, pid in shared.events()}) == 3
    [together] = shared.report["together"]
    [together] = shared.report["together"]
    assert most <= together["peak"]["allocated_bytes"] <= together["rooms_bytes"] <= 10_000
    assert together["card"] == 0
    assert 2 <= together["tests"] <= 3
    result.stdout.fnmatch_lines(["card 0: at most * tests at once, * of allocated together, *"])
    rooms = []
    for test in shared.tests.values():
        [room] = test["rooms"]
        rooms.append(room)
        assert room["card"] == 0
        assert room["bytes"] == test["budget"]["allocated_bytes"]
        assert room["ended_seconds"] - room["begun_seconds"] >= 0.05
        assert room["waited_seconds"] >= 0
    assert max(room["waited_seconds"] for room in rooms) > 0.04  # the one of the whole card did
    assert _most_of(rooms) <= 10_000


def _most_of(rooms):
    begun = [room["begun_seconds"] for room in rooms]
    return max(
        sum(r["bytes"] for r in rooms if r["begun_seconds"] <= at < r["ended_seconds"])
        for at in begun
    )


def test_workers_are_spread_over_the_cards(shared):
    shared.write(MANY)
    result = shared.run("-n3", cards="4,7")
    result.assert_outcomes(passed=12)
    result.stdout.fnmatch_lines(["memreq: of 2 cards each of several workers sees one *"])
    most = shared.most()
    assert set(most) == {"4", "7"}
    assert max(most.values()) <= 10_000
    assert [each["card"] for each in shared.report["together"]] == [0, 1]
    assert all(len(test["rooms"]) == 1 for test in shared.tests.values())


def test_a_suite_that_says_nothing_to_us_sees_all_cards(shared):
    shared.write(
        """
@pytest.mark.parametrize("number", range(4))
def test_step(number):
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,7"
"""
    )
    result = shared.run("-n2", cards="4,7", options=())
    result.assert_outcomes(passed=4)
    result.stdout.no_fnmatch_line("*each of several workers*")


def test_a_card_that_a_conftest_gives_its_worker_is_the_workers(shared):
    given = """
import os

if os.environ.get("PYTEST_XDIST_WORKER"):
    os.environ["CUDA_VISIBLE_DEVICES"] = "7"
"""
    conftest = shared.pytester.path / "conftest.py"
    conftest.write_text(given + conftest.read_text())
    shared.write(MANY)
    shared.run("-n2", cards="4,7").assert_outcomes(passed=12)
    assert set(shared.most()) == {"7"}
    assert shared.most()["7"] <= 10_000
    assert [each["card"] for each in shared.report["together"]] == [1]


def test_with_all_cards_a_test_has_room_on_each(shared):
    shared.write(
        """
@pytest.mark.max_gpu_memory(6000)
@pytest.mark.parametrize("number", range(4))
def test_step(room, number):
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,7"
    room(6000, 0.02)
"""
    )
    shared.run("-n2", "--memreq-cards=all", cards="4,7").assert_outcomes(passed=4)
    assert shared.most() == {"4": 6000}
    rooms = shared.tests["test_step[0]"]["rooms"]
    assert [(room["card"], room["bytes"]) for room in rooms] == [(0, 6000), (1, 6000)]


TOO_LARGE = """
@pytest.mark.max_gpu_memory(10_001)
def test_too_large(room):
    room(10)

@pytest.mark.max_gpu_memory(10_001)
@pytest.mark.skipif(True, reason="later")
def test_skipped(room):
    pass

@pytest.mark.max_gpu_memory(10_001, isolate=True)
def test_isolated(room):
    room(10)

@pytest.mark.max_gpu_memory(10)
def test_small(room):
    room(10)

@pytest.mark.max_gpu_memory()
def test_without_a_limit(room):
    room(10)
"""


def test_a_test_that_fits_no_card_is_unchecked_and_fails_the_run(shared):
    shared.write(TOO_LARGE)
    result = shared.run("-n2")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=2, errors=2, skipped=1)
    tests = shared.tests
    why = (
        "no card has room for it: it needs 9.77 KiB (10,001 bytes) of card 0, which has 9.77 KiB "
        "(10,000 bytes)"
    )
    for name in ("test_too_large", "test_isolated"):
        assert (tests[name]["verdict"], tests[name]["reason"]) == ("unchecked", why)
        assert tests[name]["rooms"] == []
    assert tests["test_skipped"]["outcome"] == "skipped"
    assert tests["test_small"]["rooms"][0]["bytes"] == 10
    assert tests["test_without_a_limit"]["rooms"][0]["bytes"] == 0
    assert len(shared.events()) == 4  # neither of the large ones ran


def test_unchecked_may_be_skipped_here_too(shared):
    shared.write(TOO_LARGE)
    result = shared.run("-n2", "--memreq-unchecked=skip")
    result.assert_outcomes(passed=2, skipped=3)
    assert shared.tests["test_too_large"]["verdict"] == "unchecked"


def test_a_worker_that_is_killed_leaves_its_room_at_once(shared):
    shared.write(
        """
@pytest.mark.max_gpu_memory(10_000)
@pytest.mark.parametrize("number", range(6))
def test_step(room, number):
    room(10_000, 0.05)
    if number in (1, 3):
        os.kill(os.getpid(), signal.SIGKILL)
"""
    )
    result = shared.run("-n2", "--memreq-cards-timeout=20")
    result.assert_outcomes(passed=4, failed=2)
    tests = shared.tests
    assert {tests[f"test_step[{n}]"]["verdict"] for n in (0, 2, 4, 5)} == {"within"}
    assert {tests[f"test_step[{n}]"]["reason"] for n in (1, 3)} == {"the worker that ran it died"}
    begun = [at for at, sign, *_ in shared.events() if sign == "+"]
    assert min(b - a for a, b in pairwise(begun)) >= 0.05 * 1e9


def test_room_is_given_back_with_the_test_and_not_with_its_worker(shared):
    shared.write(
        """
@pytest.mark.max_gpu_memory(10_000)
@pytest.mark.parametrize("group", [pytest.param(g, marks=pytest.mark.xdist_group(g)) for g in "ab"])
def test_large(room, group):
    room(10_000, 0.1)

@pytest.mark.parametrize("group", [pytest.param(g, marks=pytest.mark.xdist_group(g)) for g in "ab"])
def test_unmarked(group):
    time.sleep(1.5)
"""
    )
    shared.run("-n2", "--dist=loadgroup").assert_outcomes(passed=4)
    waited = [test["rooms"][0]["waited_seconds"] for test in shared.tests.values()]
    assert len(waited) == 2
    assert max(waited) < 1.3


KEEPS = """
def use(size):
    log("+", size)
    BACKEND.allocate(size)
    time.sleep(0.05)
    BACKEND.free(size)
    log("-", size)

@pytest.fixture(scope="session")
def model():
    log("+", 4990)
    BACKEND.allocate(4990)
    yield
    BACKEND.free(4990)
    log("-", 4990)

@pytest.mark.max_gpu_memory(6000)
@pytest.mark.parametrize("number", range(4))
def test_first(model, number):
    use(10)

@pytest.mark.max_gpu_memory(8000)
@pytest.mark.parametrize("number", range(4))
def test_second(model, number):
    use(3010)
"""


def test_what_fixtures_keep_goes_on_to_count(shared):
    """A worker keeps a model of 4,990 bytes: no test of 6,000 has room in another one."""
    shared.write(KEEPS)
    shared.run("-n2").assert_outcomes(passed=8)
    assert 8000 <= shared.most()["0"] <= 10_000


def test_two_that_keep_what_the_other_needs_do_not_wait_for_ever(shared):
    shared.write(KEEPS.replace("max_gpu_memory(6000)", "max_gpu_memory(5000)"))
    result = shared.run("-n2")
    assert shared.most()["0"] == 10_000
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    [reason] = {test["reason"] for test in shared.tests.values() if test["verdict"] != "within"}
    assert reason == (
        "no room on the card: it needs 7.81 KiB (8,000 bytes) of card 0, where other workers, "
        "which wait as well, keep 4.87 KiB (4,990 bytes) of 9.77 KiB (10,000 bytes)"
    )


def test_the_test_of_an_isolated_process_has_its_workers_room(shared):
    shared.write(
        """
@pytest.mark.max_gpu_memory(6000, isolate=True)
@pytest.mark.parametrize("number", range(2))
def test_step(room, number):
    room(6000, 0.1)
"""
    )
    shared.run("-n2").assert_outcomes(passed=2)
    assert shared.most()["0"] == 6000
    assert len({pid for *_, pid in shared.events()}) == 2
    assert shared.tests["test_step[0]"]["rooms"][0]["bytes"] == 6000


def test_what_the_worker_keeps_is_beside_the_isolated_process(shared):
    shared.write(
        """
@pytest.fixture(scope="session")
def model():
    BACKEND.allocate(2990)

@pytest.mark.max_gpu_memory(3000)
def test_first(model):
    BACKEND.allocate(10)
    BACKEND.free(10)

@pytest.mark.max_gpu_memory(6000, isolate=True)
def test_step(room):
    room(6000)
"""
    )
    shared.run("-n2", "--dist=loadfile").assert_outcomes(passed=2)
    assert shared.tests["test_step"]["rooms"][0]["bytes"] == 8990


def test_each_rank_has_room_on_its_card(shared):
    shared.write(
        """
@pytest.mark.max_gpu_memory(6000, ranks=2)
@pytest.mark.parametrize("number", range(2))
def test_ranks(card, number):
    rank = os.environ["LOCAL_RANK"]
    log("+", 6000, os.environ["CUDA_VISIBLE_DEVICES"].split(",")[int(rank)])
    card.allocate(6000)
    time.sleep(0.1)
    log("-", 6000, os.environ["CUDA_VISIBLE_DEVICES"].split(",")[int(rank)])
"""
    )
    shared.run("-n2", cards="4,7").assert_outcomes(passed=2)
    assert shared.most() == {"4": 6000, "7": 6000}
    rooms = shared.tests["test_ranks[0]"]["rooms"]
    assert [(room["card"], room["bytes"]) for room in rooms] == [(0, 6000), (1, 6000)]
    assert [each["peak"]["allocated_bytes"] for each in shared.report["together"]] == [6000] * 2


WAITS = """
@pytest.mark.max_gpu_memory(10_000)
@pytest.mark.parametrize("number", range(2))
def test_step(room, number):
    room(10_000, 1.2)
"""


def test_no_timer_of_others_runs_while_a_test_waits(shared):
    shared.write(WAITS)
    options = ("-p", "pytest_timeout", "--timeout=2", "--timeout-method=signal")
    shared.run("-n2", *options).assert_outcomes(passed=2)
    waits = [test["rooms"][0]["waited_seconds"] for test in shared.tests.values()]
    assert max(waits) > 1.0


def test_whoever_waits_too_long_is_unchecked(shared):
    shared.write(WAITS)
    result = shared.run("-n2", "--memreq-cards-timeout=0")
    result.assert_outcomes(passed=1, errors=1)
    [reason] = [t["reason"] for t in shared.tests.values() if t["verdict"] == "unchecked"]
    assert reason.startswith("no room on the card within 0 s (--memreq-cards-timeout): it needs")


def test_a_test_that_is_run_again_has_its_room_all_the_while(shared):
    shared.write(
        """
@pytest.mark.flaky(reruns=2)
@pytest.mark.max_gpu_memory(6000)
@pytest.mark.parametrize("number", range(2))
def test_step(room, number):
    room(6000, 0.05)
    assert len(open(os.environ["MEMREQ_LOG"]).readlines()) > 4
"""
    )
    result = shared.run("-n2", "-p", "pytest_rerunfailures")
    assert shared.most()["0"] == 6000
    processes = [pid for _, sign, _, _, pid in shared.events() if sign == "+"]
    assert len(processes) > 3
    assert processes == sorted(processes, key=processes.index)  # not taking turns
    assert result.ret == 0


@pytest.mark.parametrize("workers", ["-n1", "-n0"])
def test_where_no_card_is_shared_nothing_is_packed(shared, workers):
    shared.write(
        """
@pytest.mark.max_gpu_memory(20_000)
def test_step(request):
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,7"
    assert not request.config.pluginmanager.hasplugin("memreq-packing")
    BACKEND.allocate(10)
"""
    )
    shared.run(workers, cards="4,7").assert_outcomes(passed=1)
    assert shared.tests["test_step"]["rooms"] == []
    assert shared.report["together"] == []


def test_where_nothing_is_measured_workers_see_all_cards(shared):
    shared.write(
        """
@pytest.mark.parametrize("number", range(2))
def test_step(number):
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,7"
"""
    )
    shared.run("-n2", "--memreq=simulate", cards="4,7").assert_outcomes(passed=2)


def test_without_a_budget_no_test_is_held_up(shared):
    shared.write(
        """
@pytest.mark.parametrize("number", range(4))
def test_step(number, request):
    assert not request.config.pluginmanager.hasplugin("memreq-packing")
"""
    )
    shared.run("-n2").assert_outcomes(passed=4)
