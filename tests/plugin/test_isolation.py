"""`isolate=True`: a test in a process of its own."""

import pytest

from tests.plugin.reports_of import peaks_of, results_of

SUITE = """
    import os
    import pytest
    from conftest import BACKEND

    HERE = os.environ.get("STARTED_BY")
    os.environ["STARTED_BY"] = "somebody"

    def test_leaves_a_lot():
        BACKEND.allocate(9000)

    @pytest.mark.max_gpu_memory(5000, isolate=True)
    def test_has_the_card_for_itself(card):
        print("said in its own process")
        card.allocate(4000)

    @pytest.mark.max_gpu_memory(5000, isolate=True)
    @pytest.mark.parametrize("name", ["a b", "x::y", "-k"])
    def test_of_any_name(card, name):
        card.allocate(10 * len(name))

    @pytest.mark.max_gpu_memory(5000, isolate=True)
    def test_over(card):
        card.allocate(5001)

    @pytest.mark.max_gpu_memory(5000, isolate=True)
    def test_fails(card):
        card.allocate(1)
        assert 1 == 2

    @pytest.mark.max_gpu_memory(5000, isolate=True)
    def test_skipped(card):
        pytest.skip("no data")

    @pytest.mark.max_gpu_memory(5000, isolate=True)
    def test_dies(card):
        card.allocate(1)
        os._exit(11)

    @pytest.mark.max_gpu_memory(5000)
    def test_goes_on(card):
        card.allocate(20)
"""


@pytest.mark.parametrize("options", [(), ("-n1",)], ids=["here", "in a worker"])
def test_it_runs_elsewhere_and_is_reported_here(scripted, options):
    scripted.makepyfile(test_suite=SUITE)
    result = scripted.runpytest_subprocess(
        "--memreq-report", "--junitxml=junit.xml", "-v", "-rf", *options
    )
    result.assert_outcomes(passed=6, failed=3, skipped=1)
    tests = results_of(scripted)
    verdicts = {name: test["verdict"] for name, test in tests.items()}
    assert verdicts == {
        "test_has_the_card_for_itself": "within",
        "test_of_any_name[a b]": "within",
        "y]": "within",
        "test_of_any_name[-k]": "within",
        "test_over": "over",
        "test_fails": "error",
        "test_skipped": "unchecked",
        "test_dies": "error",
        "test_goes_on": "within",
    }
    assert tests["test_has_the_card_for_itself"]["held_bytes"] == 0
    assert peaks_of(scripted)["test_over"] == 5001
    junit = (scripted.path / "junit.xml").read_text()
    assert junit.count("<testcase") == 10
    result.stdout.fnmatch_lines(["*the test's own process ended with 11 before the test did*"])


def test_a_simulated_test_is_isolated_too(pytester):
    pytester.makepyfile(
        test_suite="""
        import pytest
        import torch

        @pytest.mark.max_gpu_memory("1 MiB", isolate=True)
        def test_step():
            torch.zeros(100, device="cuda")
        """
    )
    pytester.runpytest("--memreq-report").assert_outcomes(passed=1)
    assert peaks_of(pytester) == {"test_step": 512}


def test_memory_that_the_driver_does_not_get_back_is_said(scripted):
    scripted.makeconftest(
        (scripted.path / "conftest.py").read_text()
        + """
import itertools
SEEN = itertools.chain([100], itertools.repeat(164))
ScriptedBackend.used_bytes = lambda self: next(SEEN)
ScriptedBackend.return_seconds = 0.2
"""
    )
    scripted.makepyfile(
        test_suite="""
        import pytest

        @pytest.mark.max_gpu_memory(5000, isolate=True)
        def test_step(card):
            card.allocate(10)
        """
    )
    scripted.runpytest("--memreq-report").assert_outcomes(passed=1)
    (note,) = results_of(scripted)["test_step"]["notes"]
    assert note == "64 bytes of the card were not back after it ended"


def test_it_waits_until_the_driver_has_its_memory_back(scripted):
    scripted.makeconftest(
        (scripted.path / "conftest.py").read_text()
        + """
SEEN = [100, 164, 164, 100]
ScriptedBackend.used_bytes = lambda self: SEEN.pop(0)

def pytest_unconfigure(config):
    print("LEFT", SEEN)
"""
    )
    scripted.makepyfile(
        test_suite="""
        import pytest

        @pytest.mark.max_gpu_memory(5000, isolate=True)
        def test_step(card):
            card.allocate(10)
        """
    )
    result = scripted.runpytest("--memreq-report")
    assert results_of(scripted)["test_step"]["notes"] == []
    result.stdout.fnmatch_lines(["LEFT *]"])


def test_tests_of_other_files_may_follow_it(scripted):
    scripted.makepyfile(
        test_a="""
        import pytest

        @pytest.fixture(scope="module", autouse=True)
        def made(card_of_module):
            yield

        @pytest.fixture(scope="module")
        def card_of_module():
            yield

        def test_plain():
            pass

        @pytest.mark.max_gpu_memory(5000, isolate=True)
        def test_step(card):
            card.allocate(10)
        """,
        test_b="""
        def test_next():
            pass
        """,
    )
    scripted.runpytest("--memreq-report").assert_outcomes(passed=3)


SUITE_OF_TWO = """
import pytest

@pytest.mark.max_gpu_memory(5000, isolate=True)
def test_gpu(card):
    card.allocate(10)

def test_gpu_too():
    pass
"""
OTHER = """
from pathlib import Path

with Path("imported").open("a") as file:
    file.write("once ")

def test_gpu_not():
    pass
"""


@pytest.mark.parametrize(
    ("ini", "options", "expected"),
    [
        ("", ("-k", "gpu", "gpu"), [1, 1]),
        ("addopts = gpu", (), [1, 1]),
        ("testpaths = gpu", (), [1, 1]),
        ("", ("-k", "gpu and not too", "gpu/test_suite.py::test_gpu"), [1, 0]),
        ("", ("--pyargs", "gpu"), [1, 1]),
        ("", ("-p", "rest"), [1, 1]),
    ],
)
def test_it_is_the_one_test_however_the_run_was_asked_for(scripted, ini, options, expected):
    scripted.mkpydir("gpu").joinpath("test_suite.py").write_text(SUITE_OF_TWO)
    scripted.makefile(".ini", pytest=f"[pytest]\npythonpath = .\n{ini}")
    (scripted.path / "gpu" / "test_0.py").write_text(OTHER)
    scripted.makepyfile(rest="def pytest_collection_modifyitems(items): items[:] = items[1:]")
    scripted.runpytest_subprocess("--memreq-report", "--junitxml=junit.xml", *options)
    assert peaks_of(scripted) == {"test_gpu": 10}
    junit = (scripted.path / "junit.xml").read_text()
    assert [junit.count(f'name="{name}"') for name in ("test_gpu", "test_gpu_too")] == expected
    imported = scripted.path / "imported"
    assert not imported.exists() or imported.read_text() == "once "
