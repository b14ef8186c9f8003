"""Whose memory it is, where that is not told by names in arguments."""

import pytest

from tests.plugin.reports_of import peaks_of, results_of

FIXTURES = """
import pytest
from conftest import BACKEND

pytestmark = pytest.mark.max_gpu_memory(9000)

@pytest.fixture
def mine():
    numbers = []
    yield lambda size: numbers.append(BACKEND.allocate(size))
    for number in numbers:
        BACKEND.blocks.pop(number)

@pytest.fixture(scope="session")
def weights():
    BACKEND.allocate(900)

@pytest.fixture(scope="session")
def wrapped(request):
    passing = BACKEND.allocate(5000)
    BACKEND.blocks.pop(passing)
    BACKEND.allocate(30)
    return request.getfixturevalue("weights")

@pytest.fixture(scope="session")
def far(wrapped):
    BACKEND.allocate(4)

def test_of_weights(weights, mine):
    mine(100)

def test_of_wrapped(wrapped, mine):
    mine(200)

def test_of_far(far, mine):
    mine(300)

def test_that_asks_late(mine, request):
    mine(20)
    request.getfixturevalue("far")
    mine(400)

def test_of_nothing(mine):
    mine(500)
"""
PEAKS = {
    "test_of_weights": 900 + 100,
    "test_of_wrapped": 900 + 30 + 200,
    "test_of_far": 900 + 30 + 4 + 300,
    "test_that_asks_late": 900 + 30 + 4 + 20 + 400,
    "test_of_nothing": 500,
}
ORDERS = [
    list(PEAKS),
    [*reversed(PEAKS)],
    ["test_of_wrapped", "test_that_asks_late", "test_of_weights", "test_of_nothing", "test_of_far"],
    ["test_that_asks_late", "test_of_far", "test_of_nothing", "test_of_wrapped", "test_of_weights"],
]


@pytest.mark.parametrize("names", ORDERS, ids=["down", "up", "wrapped first", "late first"])
def test_a_fixture_that_another_asked_for_counts_with_it(scripted, names):
    scripted.makepyfile(test_suite=FIXTURES)
    nodes = [f"test_suite.py::{name}" for name in names]
    scripted.runpytest("--memreq-report", *nodes).assert_outcomes(passed=5)
    assert peaks_of(scripted) == PEAKS


@pytest.mark.parametrize("name", PEAKS)
def test_each_of_them_alone(scripted, name):
    scripted.makepyfile(test_suite=FIXTURES)
    scripted.runpytest("--memreq-report", f"test_suite.py::{name}").assert_outcomes(passed=1)
    assert peaks_of(scripted) == {name: PEAKS[name]}


def test_a_fixture_made_for_the_body_of_a_simulated_test_counts_by_what_it_holds(pytester):
    pytester.makepyfile(
        test_suite="""
        import pytest
        import torch

        pytestmark = pytest.mark.max_gpu_memory("1 GiB")

        @pytest.fixture(scope="session")
        def weights():
            torch.zeros(50 << 20, device="cuda")
            return torch.zeros(1 << 20, device="cuda")

        def step(request):
            mine = torch.zeros(2 << 20, device="cuda")
            request.getfixturevalue("weights")
            torch.zeros(4 << 20, device="cuda")

        def test_first(request):
            step(request)

        def test_second(request):
            step(request)
        """
    )
    pytester.runpytest("--memreq-report").assert_outcomes(passed=2)
    assert peaks_of(pytester) == dict.fromkeys(("test_first", "test_second"), 7 << 22)
    reserved = peaks_of(pytester, "reserved")
    assert reserved["test_first"] == reserved["test_second"]


MODULES = {
    "helper": """
        from conftest import BACKEND
        BACKEND.allocate(100)
        """,
    "test_a": """
        import pytest
        from conftest import BACKEND
        BACKEND.allocate(10)
        import helper
        BACKEND.allocate(20)

        @pytest.mark.max_gpu_memory(9000)
        def test_a(card):
            card.allocate(1)
        """,
    "test_b": """
        import pytest
        import helper
        from conftest import BACKEND
        BACKEND.allocate(300)

        @pytest.mark.max_gpu_memory(9000)
        def test_b(card):
            card.allocate(2)
        """,
}

USED = """
import torch.cuda
torch.cuda.is_initialized = lambda: True
BACKEND.allocate(5000)
"""


@pytest.mark.parametrize("mode", ["prepend", "append", "importlib"])
def test_what_is_made_by_an_import_is_the_modules_or_for_all(scripted, mode):
    scripted.makeconftest((scripted.path / "conftest.py").read_text() + USED)
    scripted.makepyfile(**MODULES)
    scripted.makeini("[pytest]\npythonpath = .")
    options = ("--memreq-report", "--memreq=measure", f"--import-mode={mode}")
    scripted.runpytest_subprocess(*options, "-p", "conftest").assert_outcomes(passed=2)
    assert peaks_of(scripted) == {
        "test_a": 5000 + 100 + 10 + 20 + 1,
        "test_b": 5000 + 100 + 300 + 2,
    }
    assert results_of(scripted)["test_b"]["held_by"] == [{"who": "test_a.py", "bytes": 30}]


def test_loaders_are_those_that_python_would_have_had(scripted):
    scripted.makepyfile(helper="X = 1")
    scripted.makepyfile(
        test_suite="""
        import importlib.machinery
        import helper

        def test_loader():
            loader = importlib.machinery.SourceFileLoader
            assert type(helper.__loader__) is type(helper.__spec__.loader) is loader
            assert "memreq" not in type(test_loader.__globals__["__loader__"]).__module__
        """
    )
    scripted.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_a_run_without_budgets_asks_no_device(scripted):
    scripted.makeconftest(
        """
        import pytest
        def pytest_memreq_backend(config):
            raise SystemError("asked")
        """
    )
    scripted.makepyfile(
        """
        import pytest, torch

        @pytest.fixture
        def awake():
            torch.cuda.is_initialized = lambda: True

        @pytest.fixture
        def anything():
            pass

        def test_step(awake, anything):
            pass
        """
    )
    result = scripted.runpytest_subprocess()
    result.assert_outcomes(passed=1)


def test_a_device_that_cannot_be_asked_leaves_tests_unchecked(scripted):
    scripted.makeconftest(
        """
        def pytest_memreq_backend(config):
            raise RuntimeError("CUDA driver initialization failed\\nadvice")
        """
    )
    scripted.makepyfile(
        """
        import pytest
        @pytest.mark.max_gpu_memory(1)
        def test_step():
            pass
        """
    )
    result = scripted.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*memreq: unchecked: CUDA driver initialization failed"])
