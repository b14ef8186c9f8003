"""Workers that share cards: a test begins once there is room for its budget."""

import json
import os
import re

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

    def write(self, source):
        self.pytester.makepyfile(
            test_suite="import os, pytest, signal, time\nfrom conftest import BACKEND, log\n"
            + source
        )

    def run(self, *options, cards="0"):
        self.monkeypatch.setenv("CUDA_VISIBLE_DEVICES", cards)
        return self.pytester.runpytest_subprocess(
            *("-p", "pytest_memreq.plugin", "-p", "xdist.plugin", "--memreq-report"),
            *options,
            timeout=60,
        )

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
