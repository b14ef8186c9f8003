"""Beside others' plugins: each loaded by its name, with the same suite or with what it is for."""

import sys

import pytest

from tests.plugin.citizen import OUTCOMES, VERDICTS
from tests.plugin.reports_of import results_of

XDIST = ("-p", "xdist.plugin", "-n2")
BUDGET = "@pytest.mark.max_gpu_memory(1000)\n"


@pytest.mark.parametrize(
    "options",
    [
        ("-p", "pytest_rerunfailures", "--reruns=1"),
        ("-p", "pytest_timeout", "--timeout=60"),
        ("-p", "pytest_cov.plugin", "--cov=.", "--cov-report=", "-p", "no:cacheprovider"),
        ("-p", "pytest_randomly"),
        ("-p", "random_order.plugin", "--random-order"),
        ("-p", "pytest_benchmark.plugin"),
        ("-p", "anyio.pytest_plugin"),
        ("-p", "_hypothesis_pytestplugin"),
    ],
    ids=lambda options: options[1],
)
def test_the_verdicts_are_those_without_it(runs, options):
    result = runs.process(*options)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert (runs.status, runs.verdicts) == ("complete", VERDICTS)
    outcomes = result.parseoutcomes()
    assert {word: outcomes[word] for word in OUTCOMES} == OUTCOMES


def test_coverage_of_workers(runs):
    result = runs.process("-p", "pytest_cov.plugin", "--cov=.", *XDIST)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert runs.verdicts == VERDICTS
    result.stdout.fnmatch_lines(["*tests coverage*", "test_suite.py *"])


def test_of_a_test_that_is_run_again_the_last_counts(runs):
    runs.write(
        f"""
ATTEMPTS = []

{BUDGET}def test_flaky(card):
    ATTEMPTS.append(None)
    card.allocate(1001 if len(ATTEMPTS) == 1 else 10)

{BUDGET}def test_over(card):
    card.allocate(1001)
"""
    )
    result = runs.process("-p", "pytest_rerunfailures", "--reruns=2")
    result.assert_outcomes(passed=1, failed=1)
    assert runs.verdicts == {"test_flaky": ("within", "passed"), "test_over": ("over", "failed")}


SLEEPS = f"""
import time

{BUDGET}def test_before(card):
    card.allocate(10)

{BUDGET}def test_sleeps(card):
    card.allocate(10)
    time.sleep(30)

{BUDGET}def test_after(card):
    card.allocate(10)
"""


def test_a_test_that_takes_too_long_is_an_error_and_the_others_go_on(runs):
    runs.write(SLEEPS)
    result = runs.process("-p", "pytest_timeout", "--timeout=1", "--timeout-method=signal")
    result.assert_outcomes(passed=2, failed=1)
    assert runs.verdicts["test_sleeps"] == ("error", "failed")
    assert runs.verdicts["test_after"] == ("within", "passed")


def test_where_a_timeout_ends_the_process_the_journal_is_there(runs):
    runs.write(SLEEPS)
    result = runs.process("-p", "pytest_timeout", "--timeout=1", "--timeout-method=thread")
    assert result.ret != pytest.ExitCode.OK
    assert runs.status == "incomplete"
    render = runs.pytester.run(sys.executable, "-m", "pytest_memreq", "render")
    assert render.ret == 2
    assert runs.verdicts == {"test_before": ("within", "passed")}
    render.stdout.fnmatch_lines(["*Running when it ended: test_suite.py::test_sleeps"])


def test_unittest(runs):
    runs.write(
        f"""
import unittest

{BUDGET}class TestCase(unittest.TestCase):
    def setUp(self):
        self.addCleanup(BACKEND.blocks.clear)

    def test_within(self):
        BACKEND.allocate(10)

    def test_over(self):
        BACKEND.allocate(1001)

    @unittest.expectedFailure
    def test_expected(self):
        BACKEND.allocate(10)
        self.fail()

    @unittest.skip("later")
    def test_skipped(self):
        pass

    def test_parts(self):
        for size in (10, 20):
            with self.subTest(size=size):
                BACKEND.allocate(size)
"""
    )
    runs.process()
    assert runs.verdicts.pop("test_expected")[1] == "xfailed"
    assert runs.verdicts | {"test_expected": None} == {
        "test_within": ("within", "passed"),
        "test_over": ("over", "failed"),
        "test_skipped": ("unchecked", "skipped"),
        "test_parts": ("within", "passed"),
        "test_expected": None,
    }


def test_async_tests(runs):
    runs.write(
        f"""
pytestmark = pytest.mark.anyio

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.fixture
async def held(card):
    card.allocate(100)
    yield

{BUDGET}async def test_over(card, held):
    card.allocate(901)

{BUDGET}async def test_within(card, held):
    card.allocate(900)
"""
    )
    runs.process("-p", "anyio.pytest_plugin")
    assert runs.verdicts == {"test_over": ("over", "failed"), "test_within": ("within", "passed")}


def test_of_many_examples_the_largest_counts(runs):
    runs.write(
        f"""
from hypothesis import example, given, settings, strategies as st

{BUDGET}@settings(max_examples=5)
@example(size=1001)
@given(size=st.integers(1, 1000))
def test_sizes(size):
    BACKEND.free(10_000)
    BACKEND.allocate(size)
"""
    )
    runs.process("-p", "_hypothesis_pytestplugin")
    assert runs.verdicts == {"test_sizes": ("over", "failed")}
    assert results_of(runs.pytester)["test_sizes"]["peak"]["allocated_bytes"] == 1001


def test_what_is_timed_many_times_is_one_test(runs):
    runs.write(
        f"""
{BUDGET}def test_timed(card, benchmark):
    benchmark.pedantic(lambda: card.free(10) or card.allocate(10), rounds=5)
"""
    )
    runs.process("-p", "pytest_benchmark.plugin").assert_outcomes(passed=1)
    assert runs.verdicts == {"test_timed": ("within", "passed")}


def test_doctests_are_checked_where_all_is(runs):
    runs.write(
        '''
def function():
    """
    >>> from conftest import BACKEND
    >>> _ = BACKEND.allocate(1001)
    """
'''
    )
    options = ("--doctest-modules", "--memreq-all", "--memreq-budget=1000")
    result = runs.process(*options)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert runs.verdicts == {"test_suite.function": ("over", "failed")}


def test_a_run_within_a_test_has_a_report_of_its_own(runs):
    runs.write(
        f"""
pytest_plugins = ["pytester"]

{BUDGET}def test_outer(card, pytester):
    card.allocate(10)
    pytester.makepyfile("def test_inner(): pass")
    result = pytester.runpytest("-p", "pytest_memreq.plugin", "--memreq-report")
    result.assert_outcomes(passed=1)
"""
    )
    runs.process().assert_outcomes(passed=1)
    assert runs.verdicts == {"test_outer": ("within", "passed")}
