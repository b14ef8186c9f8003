"""Out of memory, a lost device, caps, cards that are too small."""

import pytest

from tests.plugin.reports_of import results_of


def run(pytester, source, *options):
    pytester.makepyfile(test_suite=f"import pytest\nfrom conftest import BACKEND\n{source}")
    return pytester.runpytest("--memreq-report", *options)


def test_out_of_memory_is_over_a_budget_that_it_exceeds(scripted):
    result = run(
        scripted,
        """
@pytest.mark.max_gpu_memory(9000)
def test_too_much(card):
    card.allocate(6000)
    card.allocate(5000)

@pytest.mark.max_gpu_memory(9000)
def test_next(card):
    card.allocate(10)
""",
    )
    result.assert_outcomes(failed=1, passed=1)
    tests = results_of(scripted)
    assert tests["test_too_much"]["verdict"] == "over"
    reason = tests["test_too_much"]["reason"]
    assert "asked for 4.88 KiB (5,000 bytes) with 5.86 KiB (6,000 bytes) allocated" in reason
    assert "over the budget of 8.79 KiB (9,000 bytes) by at least 1.95 KiB (2,000 bytes)" in reason
    assert tests["test_next"]["peak"]["allocated_bytes"] == 10
    assert tests["test_next"]["held_bytes"] == 0
    out = result.stdout.str()
    assert "card.allocate(5000)" in out  # the line of the user's
    result.stdout.fnmatch_lines(["E *MemoryBudgetExceeded: *"])


def test_out_of_memory_within_the_budget_is_an_error_that_says_who_was_in_the_way(scripted):
    result = run(
        scripted,
        """
def test_leaves_a_lot():
    BACKEND.allocate(7000)

@pytest.mark.max_gpu_memory(9000)
def test_is_in_budget():
    BACKEND.allocate(2000)
    BACKEND.allocate(2000)
""",
    )
    result.assert_outcomes(failed=1, passed=1)
    test = results_of(scripted)["test_is_in_budget"]
    assert test["verdict"] == "error"
    assert "out of memory: asked for 1.95 KiB (2,000 bytes)" in test["reason"]
    assert "6.84 KiB (7,000 bytes) of that left by others" in test["reason"]
    assert "the budget is 8.79 KiB (9,000 bytes)" in test["reason"]
    result.stdout.fnmatch_lines(["E *OutOfMemoryError: out of memory"])


def test_out_of_memory_that_the_test_catches_is_its_own_affair(scripted):
    run(
        scripted,
        """
@pytest.mark.max_gpu_memory(9000)
def test_tries(card):
    with pytest.raises(RuntimeError):
        card.allocate(50_000)
    card.allocate(10)
""",
    ).assert_outcomes(passed=1)


LOST = """
pytestmark = pytest.mark.max_gpu_memory(9000)

def test_before(card):
    card.allocate(10)

def test_breaks(card):
    card.allocate(10)
    card.break_down("device-side assert triggered")
    {then}

def test_after(card):
    card.allocate(10)

def test_of_no_device():
    pass
"""


@pytest.mark.parametrize(
    ("then", "shown"),
    [
        ("pass", "E *RuntimeError: CUDA error: device-side assert triggered"),
        ("assert 1 == 2", "E *assert 1 == 2"),
        ("raise card.error", "E *RuntimeError: CUDA error: device-side assert triggered"),
    ],
)
def test_a_lost_device_is_the_error_of_the_test_that_lost_it(scripted, then, shown):
    result = run(scripted, LOST.format(then=then))
    result.assert_outcomes(passed=1, failed=3)
    tests = results_of(scripted)
    assert [tests[name]["verdict"] for name in tests] == [
        "unchecked",
        "within",
        "error",
        "unchecked",
    ]
    assert tests["test_breaks"]["reason"].startswith("CUDA context lost: ")
    assert tests["test_after"]["reason"].startswith("CUDA context lost: ")
    assert tests["test_after"]["reason"].endswith("(in test_suite.py::test_breaks)")
    result.stdout.fnmatch_lines([shown])
    assert "Error" not in result.stderr.str()


def test_a_device_lost_by_a_test_without_a_budget_is_noticed(scripted):
    result = run(
        scripted,
        """
def test_breaks():
    BACKEND.break_down("an illegal memory access was encountered")

@pytest.mark.max_gpu_memory(9000)
def test_after(card):
    card.allocate(10)
""",
    )
    result.assert_outcomes(passed=1, failed=1)
    assert "CUDA context lost" in results_of(scripted)["test_after"]["reason"]


def test_a_cap_points_at_the_line_that_crosses_the_budget(scripted):
    result = run(
        scripted,
        """
@pytest.mark.max_gpu_memory(reserved=4000, enforce="cap")
def test_step(card):
    card.allocate(3000)
    card.allocate(1001)
    card.free(4001)

@pytest.mark.max_gpu_memory(9000)
def test_next(card):
    card.allocate(9000)
""",
    )
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines([">       card.allocate(1001)"])
    assert results_of(scripted)["test_step"]["verdict"] == "over"
    assert "held to 3.91 KiB (4,000 bytes)" in results_of(scripted)["test_step"]["reason"]


def test_a_cap_leaves_room_for_what_others_hold(scripted):
    run(
        scripted,
        """
def test_leaves_something():
    BACKEND.allocate(500)

@pytest.mark.max_gpu_memory(4000, requested=4000, enforce="cap")
def test_step(card):
    card.allocate(4000)
""",
    ).assert_outcomes(passed=2)


def test_a_device_that_cannot_refuse_is_no_cap(scripted):
    scripted.makeconftest(
        (scripted.path / "conftest.py").read_text()
        + "\nScriptedBackend.cap = lambda self, limit_bytes: limit_bytes is None\n"
    )
    run(
        scripted,
        """
@pytest.mark.max_gpu_memory(4000, enforce="cap")
def test_step(card):
    card.allocate(10)
""",
    ).assert_outcomes(failed=1)
    assert "cannot refuse allocations" in results_of(scripted)["test_step"]["reason"]


def test_a_test_can_ask_to_be_skipped_on_a_small_card(scripted):
    result = run(
        scripted,
        """
@pytest.mark.max_gpu_memory(10_001, skip_too_small=True)
def test_large(card):
    raise AssertionError

@pytest.mark.max_gpu_memory(10_000, skip_too_small=True)
def test_fits(card):
    card.allocate(10)

@pytest.mark.max_gpu_memory(10_001)
def test_did_not_ask(card):
    card.allocate(10)
""",
        "-rs",
    )
    result.assert_outcomes(skipped=1, passed=2)
    result.stdout.fnmatch_lines(["SKIPPED*Scripted card has 9.77 KiB, less than the test's limits"])


def test_frames_of_all_that_was_raised_are_let_go_of(scripted):
    run(
        scripted,
        """
import weakref

class Tensor:
    def __del__(self):
        BACKEND.free(400)

def inner():
    held = Tensor()
    BACKEND.allocate(400)
    raise KeyError

@pytest.mark.max_gpu_memory(5000)
def test_fails():
    try:
        inner()
    except KeyError as error:
        raise ValueError from error

@pytest.mark.max_gpu_memory(5000)
def test_next(card):
    card.allocate(10)
""",
    ).assert_outcomes(failed=1, passed=1)
    assert results_of(scripted)["test_next"]["held_bytes"] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ('1, enforce="hard"', "enforce='hard' is not known; write enforce=\"cap\""),
        ("1, isolate=3", "isolate=3 is neither True nor False"),
        ('1, skip_too_small="yes"', "skip_too_small='yes' is neither True nor False"),
    ],
)
def test_a_bad_word_in_the_marker_ends_the_run(scripted, arguments, words):
    result = run(
        scripted, f"@pytest.mark.max_gpu_memory({arguments})\ndef test_step(card):\n    pass\n"
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *{words}*"])


def test_fixtures_of_tests_without_a_budget_go_on_after_a_lost_device(scripted):
    run(
        scripted,
        """
@pytest.fixture(scope="module")
def anything():
    return 1

@pytest.mark.max_gpu_memory(9000)
def test_breaks(card):
    card.allocate(10)
    card.break_down("an illegal memory access was encountered")

def test_on_the_cpu(anything):
    pass
""",
    ).assert_outcomes(failed=1, passed=1)


def test_a_fixture_in_the_traceback_of_a_failure_goes_on(scripted):
    run(
        scripted,
        """
@pytest.fixture(scope="module")
def tried():
    try:
        raise KeyError
    except KeyError as error:
        kept = error
    alive = [True]
    yield kept, alive
    alive[0] = False

@pytest.mark.max_gpu_memory(9000)
def test_fails(tried, card):
    card.allocate(10)
    raise ValueError from tried[0]

@pytest.mark.max_gpu_memory(9000)
def test_next(tried, card):
    card.allocate(10)
    assert tried[1][0]
""",
    ).assert_outcomes(failed=1, passed=1)


UNITTEST = """
import unittest

class TestSteps(unittest.TestCase):
    @pytest.mark.max_gpu_memory(100)
    def test_over_and_failed(self):
        BACKEND.allocate(500)
        self.fail("of its own")

    @pytest.mark.max_gpu_memory(100)
    def test_over_and_skipped(self):
        BACKEND.allocate(500)
        self.skipTest("no data")

    @pytest.mark.max_gpu_memory(100)
    def test_over(self):
        BACKEND.allocate(500)

    @pytest.mark.max_gpu_memory(100)
    def test_out_of_memory(self):
        BACKEND.free(5000)
        BACKEND.allocate(50_000)

    @pytest.mark.max_gpu_memory(1000)
    @unittest.expectedFailure
    def test_expected_to_fail(self):
        BACKEND.allocate(1)
        self.fail("as expected")

    @pytest.mark.max_gpu_memory(1000)
    def test_with_subtests(self):
        for size in (1, 2):
            with self.subTest(size=size):
                BACKEND.allocate(size)

    @pytest.mark.max_gpu_leak(0)
    def test_leaks_and_fails(self):
        BACKEND.allocate(7)
        self.assertEqual(1, 2)

    @pytest.mark.max_gpu_leak(0)
    def test_leaks_and_fails_later(self):
        self.__class__.runs = getattr(self, "runs", 0) + 1
        BACKEND.allocate(7)
        self.assertLess(self.runs, 3)
"""


def test_what_a_unittest_raises_is_seen(scripted):
    result = run(scripted, UNITTEST, "-rs")
    tests = results_of(scripted)
    seen = {name.removeprefix("test_"): (t["verdict"], t["outcome"]) for name, t in tests.items()}
    assert seen == {
        "over_and_failed": ("error", "failed"),
        "over_and_skipped": ("unchecked", "skipped"),
        "over": ("over", "failed"),
        "out_of_memory": ("over", "failed"),
        "expected_to_fail": ("error", "xfailed"),
        "with_subtests": ("within", "passed"),
        "leaks_and_fails": ("error", "failed"),
        "leaks_and_fails_later": ("error", "failed"),
    }
    assert "asked for 48.83 KiB (50,000 bytes)" in tests["test_out_of_memory"]["reason"]
    assert tests["test_leaks_and_fails"]["leaked_bytes"] == 7
    assert tests["test_leaks_and_fails_later"]["leaked_bytes"] == 21
    result.stdout.fnmatch_lines(["E       AssertionError: of its own", "SKIPPED*: no data"])
    result.stdout.no_fnmatch_line("*plugin/*.py:*")


def test_a_test_that_resets_the_peak_itself_hides_nothing(scripted):
    run(
        scripted,
        """
@pytest.mark.max_gpu_memory(1000)
def test_step(card, memreq):
    card.allocate(4000)
    card.free(4000)
    card.reset_by_user()
    assert card.peak().allocated_bytes == 0
    with memreq.measure("forward") as forward:
        card.allocate(30)
        card.free(30)
        card.reset_by_user()
    assert forward.peak.allocated_bytes == 30
""",
    ).assert_outcomes(failed=1)
    assert results_of(scripted)["test_step"]["peak"]["allocated_bytes"] == 4000
    assert results_of(scripted)["test_step"]["verdict"] == "over"
