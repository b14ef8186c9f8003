"""A long simulation says on a terminal how far it is, and nowhere else."""

import pytest

SUITE = """
import pytest, torch

@pytest.mark.max_gpu_memory("1 GiB")
def test_long():
    x = torch.ones(8, device="cuda")
    for _ in range(1000):
        x = x + 1
    print("said by the test")
"""
AT_ONCE = """
import pytest_memreq.plugin.progress as progress
progress.LONG_SECONDS = progress.EACH_SECONDS = 0.0
"""
OPTIONS = ("--memreq=simulate",)


@pytest.fixture
def suite(pytester, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    pytester.makeconftest(AT_ONCE)
    pytester.makepyfile(test_with_a_long_name=SUITE)
    return pytester


def test_on_a_terminal_it_is_told_on_one_line(suite):
    child = suite.spawn_pytest(" ".join(OPTIONS), expect_timeout=60)
    child.expect(r"\rsimulating test_w\S*_long: [0-9,]+ operators, \d+ s")
    first = child.match[0]
    child.expect(r"\rsimulating [^\r\n]*: 768 operators")
    child.expect("1 passed")
    child.wait()
    assert len(first.strip()) < 60
    assert b"said by the test" not in child.before


@pytest.mark.parametrize("option", ["-q", "-s"])
def test_who_wants_quiet_or_all_that_tests_print_is_not_told(suite, option):
    child = suite.spawn_pytest(" ".join((*OPTIONS, option)), expect_timeout=60)
    child.expect("1 passed")
    assert b"simulating test" not in child.before
    child.wait()


def test_where_there_is_no_terminal_it_is_not_told(suite):
    result = suite.runpytest_subprocess(*OPTIONS)
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*operators*")
