"""The gate on a device: what passes, what fails, and how it says so."""

import json

import pytest

MARKED = """
    import pytest

    @pytest.mark.max_gpu_memory({limit})
    def test_step(card):
        card.allocate({size})
"""


def verdicts(pytester):
    report = json.loads((pytester.path / "memreq-report" / "memreq.json").read_text())
    return {test["nodeid"].rpartition("::")[2]: test["verdict"] for test in report["tests"]}


def test_a_peak_equal_to_its_budget_passes(scripted):
    scripted.makepyfile(MARKED.format(limit=4000, size=4000))
    scripted.runpytest("--memreq-report").assert_outcomes(passed=1)
    assert verdicts(scripted) == {"test_step": "within"}


def test_a_budget_one_byte_below_the_peak_fails_with_the_figures(scripted):
    scripted.makepyfile(MARKED.format(limit=3999, size=4000))
    result = scripted.runpytest("--memreq-report")
    result.assert_outcomes(failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    figures = "allocated peak 3.91 KiB (4,000 bytes) is over the budget of 3.91 KiB (3,999 bytes)"
    result.stdout.fnmatch_lines([f"*MemoryBudgetExceeded: *test_step: {figures} by 1 byte*"])
    assert "plugin/session.py" not in result.stdout.str()  # none of our frames
    result.stdout.no_fnmatch_line("*traceback entries are hidden*")
    assert verdicts(scripted) == {"test_step": "over"}


def test_the_marker_works_without_any_option(scripted):
    scripted.makepyfile(MARKED.format(limit=3999, size=4000))
    result = scripted.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*= GPU memory =*", "over *", "*test_step"])
    assert not (scripted.path / "memreq-report").exists()


def test_the_nearest_marker_wins_each_metric(scripted):
    scripted.makepyfile(
        """
        import pytest

        pytestmark = pytest.mark.max_gpu_memory(100, requested=5000)

        @pytest.mark.max_gpu_memory(200)
        class TestSteps:
            @pytest.mark.max_gpu_memory(allocated=4000)
            def test_own(self, card):
                card.allocate(4000)

            def test_of_the_class(self, card):
                card.allocate(201)

        def test_of_the_module(card):
            card.allocate(101)

        @pytest.mark.max_gpu_memory(9000)
        def test_other_metric_of_the_module(card):
            card.allocate(5001)
        """
    )
    scripted.runpytest("--memreq-report").assert_outcomes(passed=1, failed=3)
    assert verdicts(scripted) == {
        "test_own": "within",
        "test_of_the_class": "over",
        "test_of_the_module": "over",
        "test_other_metric_of_the_module": "over",
    }


@pytest.mark.parametrize(("size", "verdict"), [(8000, "within"), (8001, "over")])
def test_a_share_is_one_of_the_cards_capacity(scripted, size, verdict):
    scripted.makepyfile(MARKED.format(limit='"80%"', size=size))
    scripted.runpytest("--memreq-report")
    assert verdicts(scripted) == {"test_step": verdict}


def test_an_expected_excess_is_an_xfail(scripted):
    scripted.makepyfile(
        """
        import pytest
        from pytest_memreq import MemoryBudgetExceeded

        @pytest.mark.xfail(strict=True, raises=MemoryBudgetExceeded)
        @pytest.mark.max_gpu_memory(100)
        def test_step(card):
            card.allocate(4000)
        """
    )
    scripted.runpytest().assert_outcomes(xfailed=1)


def test_a_unittest_case_is_held_to_its_budget(scripted):
    scripted.makepyfile(
        """
        import unittest
        import pytest
        from conftest import BACKEND

        @pytest.mark.max_gpu_memory(1000)
        class Steps(unittest.TestCase):
            def tearDown(self):
                BACKEND.free(BACKEND.live)

            def test_small(self):
                BACKEND.allocate(10)

            def test_large(self):
                BACKEND.allocate(1010)

            def test_broken(self):
                BACKEND.allocate(10)
                self.fail("of itself")
        """
    )
    scripted.runpytest("--memreq-report").assert_outcomes(passed=1, failed=2)
    assert verdicts(scripted) == {
        "test_small": "within",
        "test_large": "over",
        "test_broken": "error",
    }


def test_a_failing_test_fails_as_itself_and_keeps_its_figures(scripted):
    scripted.makepyfile(
        """
        import pytest

        @pytest.mark.max_gpu_memory(100)
        def test_step(card):
            card.allocate(4000)
            raise ValueError("of itself")
        """
    )
    result = scripted.runpytest("--memreq-report")
    result.stdout.fnmatch_lines(["E   *ValueError: of itself"])
    report = json.loads((scripted.path / "memreq-report" / "memreq.json").read_text())
    (test,) = report["tests"]
    assert test["verdict"] == "error"
    assert test["reason"] == "the test raised ValueError"
    assert test["peak"]["allocated_bytes"] == 4000


def test_what_an_earlier_test_left_is_told_apart(scripted):
    scripted.makepyfile(
        """
        import pytest
        from conftest import BACKEND

        def test_leaves_something():
            BACKEND.allocate(300)

        @pytest.mark.max_gpu_memory(1000)
        def test_step(card):
            card.allocate(500)
        """
    )
    scripted.runpytest("--memreq-report").assert_outcomes(passed=2)
    report = json.loads((scripted.path / "memreq-report" / "memreq.json").read_text())
    (test,) = report["tests"]
    assert test["held_bytes"] == 300
    assert test["peak"]["allocated_bytes"] == 500
    assert test["absolute_peak"]["allocated_bytes"] == 800
    (held,) = test["held_by"]
    assert held["who"].endswith("::test_leaves_something")
    assert held["bytes"] == 300


def test_memory_that_setup_gave_back_is_not_in_the_peak(scripted):
    scripted.makepyfile(
        """
        import pytest

        @pytest.fixture
        def model(card):
            card.allocate(5000)
            card.free(4000)

        @pytest.mark.max_gpu_memory(1500)
        def test_step(card, model):
            card.allocate(500)
        """
    )
    scripted.runpytest().assert_outcomes(passed=1)


def test_the_report_is_the_same_under_xdist(scripted):
    scripted.makepyfile(
        """
        import pytest

        @pytest.mark.max_gpu_memory(1000)
        @pytest.mark.parametrize("size", [10, 500, 1000, 1001])
        def test_step(card, size):
            card.allocate(size)
        """
    )

    def section(*options):
        result = scripted.runpytest_subprocess("--memreq-report", *options)
        lines = result.stdout.lines
        start = next(at for at, line in enumerate(lines) if " GPU memory " in line)
        end = next(at for at, line in enumerate(lines) if "short test summary" in line)
        return [line for line in lines[start:end] if not line.startswith("card 0: at most ")]

    assert section() == section("-n2")
    assert list(verdicts(scripted).values()) == ["within", "over", "within", "within"]


def test_the_first_failure_stops_a_run_that_asks_for_it(scripted):
    scripted.makepyfile(
        """
        import pytest

        @pytest.mark.max_gpu_memory(1000)
        @pytest.mark.parametrize("size", [1001, 10])
        def test_step(card, size):
            card.allocate(size)
        """
    )
    scripted.runpytest("-x", "--memreq-report").assert_outcomes(failed=1)
    assert verdicts(scripted) == {"test_step[1001]": "over"}


def test_a_repeated_test_counts_once(scripted):
    scripted.makepyfile(MARKED.format(limit=4000, size=10))
    scripted.runpytest("--memreq-report", "test_a_repeated_test_counts_once.py").assert_outcomes(
        passed=1
    )
    assert len(verdicts(scripted)) == 1


def test_stretches_have_peaks_of_their_own_and_leave_the_tests_whole(scripted):
    scripted.makepyfile(
        """
        import pytest

        @pytest.mark.max_gpu_memory(899)
        def test_step(card, memreq):
            card.allocate(900)
            card.free(800)
            with memreq.measure("outer") as outer:
                with memreq.measure("inner") as inner:
                    card.allocate(400)
                    card.free(400)
                card.allocate(200)
                card.free(200)
            with memreq.measure("last") as last:
                pass
            peaks = [span.peak.allocated_bytes for span in (outer, inner, last)]
            assert peaks == [500, 500, 100]
            assert memreq.device == "scripted"
        """
    )
    result = scripted.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*allocated peak 900 bytes is over the budget of 899 bytes*"])


RELATIVE = """
    def test_step(card, memreq):
        with memreq.measure("plain") as plain:
            card.allocate(1000)
            card.free(1000)
        with memreq.measure("checkpointed") as checkpointed:
            card.allocate({size})
            card.free({size})
        assert memreq.compare(checkpointed, plain).difference_bytes == {size} - 1000
        memreq.check(checkpointed, "80%", of=plain)
"""


def test_one_stretch_can_be_held_to_a_share_of_another(scripted):
    scripted.makepyfile(RELATIVE.format(size=800))
    scripted.runpytest().assert_outcomes(passed=1)


def test_a_stretch_over_its_share_of_another_fails_with_both_figures(scripted):
    scripted.makepyfile(RELATIVE.format(size=801))
    result = scripted.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*over the budget of 800 bytes by 1 byte; it is 801 bytes, 80.10% of 1,000 bytes*"]
    )


def test_a_limit_on_the_device_counts_what_is_outside_of_the_allocator(scripted):
    scripted.makeconftest(
        (scripted.path / "conftest.py").read_text()
        + """
ScriptedBackend.reserved_bytes = lambda self: self.live
ScriptedBackend.peak = lambda self: Peak(allocated_bytes=self.most, reserved_bytes=self.most)
"""
    )
    scripted.makepyfile(
        """
        import pytest

        @pytest.mark.max_gpu_memory(device=1000)
        def test_within(card):
            card.allocate(400)
            card.outside_bytes = 600

        @pytest.mark.max_gpu_memory(device=1000)
        def test_over(card):
            card.allocate(401)
        """
    )
    result = scripted.runpytest("--memreq-report")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*device peak 1,001 bytes is over*"])


def test_a_limit_on_the_device_that_is_not_known_says_why(scripted):
    scripted.makeconftest(
        (scripted.path / "conftest.py").read_text()
        + """
ScriptedBackend.outside = lambda self: Outside(reason="nobody told")
"""
    )
    scripted.makepyfile(
        """
        import pytest

        @pytest.mark.max_gpu_memory(device=1000)
        def test_step(card):
            card.allocate(400)
        """
    )
    result = scripted.runpytest("--memreq-report")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*unchecked: the device peak is not known: nobody told*"])
    report = json.loads((scripted.path / "memreq-report" / "memreq.json").read_text())
    assert report["tests"][0]["unknown"] == {"device": "nobody told"}
