"""A gate that cannot tell says so and fails."""

import pytest

NOTHING = """
    import pytest

    @pytest.mark.max_gpu_memory("1 GiB")
    def test_on_the_cpu():
        pass
"""


def test_a_test_that_allocated_nothing_is_unchecked(scripted):
    scripted.makepyfile(NOTHING)
    result = scripted.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*memreq: unchecked: nothing was allocated on the device*"])
    result.stdout.no_fnmatch_line("*traceback entries are hidden*")


def test_unchecked_can_be_a_skip_but_the_run_still_fails_if_nothing_was_checked(scripted):
    scripted.makepyfile(NOTHING)
    result = scripted.runpytest("--memreq-unchecked", "skip", "-rs")
    result.assert_outcomes(skipped=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["memreq: 1 test has a budget and none could be checked*"])


def test_a_skipped_test_stays_skipped_and_counts_as_not_checked(scripted):
    scripted.makepyfile(
        """
        import pytest

        @pytest.mark.skipif(True, reason="needs eight cards")
        @pytest.mark.max_gpu_memory("1 GiB")
        def test_skipped():
            pass

        @pytest.mark.max_gpu_memory("1 GiB")
        def test_skips_itself():
            pytest.skip("no data")
        """
    )
    result = scripted.runpytest("--memreq-report")
    result.assert_outcomes(skipped=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*skipped: needs eight cards*", "*skipped: no data*"])


def test_a_skipped_test_beside_a_checked_one_passes(scripted):
    scripted.makepyfile(
        """
        import pytest

        pytestmark = pytest.mark.max_gpu_memory(1000)

        @pytest.mark.skip(reason="later")
        def test_skipped():
            pass

        def test_step(card):
            card.allocate(10)
        """
    )
    assert scripted.runpytest().ret == pytest.ExitCode.OK


def test_measuring_without_a_device_is_unchecked(pytester):
    pytester.makeconftest(
        """
        import pytest

        @pytest.hookimpl(wrapper=True)
        def pytest_memreq_backend(config):
            yield
            return None
        """
    )
    pytester.makepyfile(NOTHING)
    result = pytester.runpytest("--memreq", "measure")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*memreq: unchecked: no device to measure on*"])


@pytest.mark.parametrize("given", ["7", "[7]", "int"])
def test_a_hook_that_gives_no_backend_is_told_so(pytester, given):
    pytester.makeconftest(f"def pytest_memreq_backend(config):\n    return {given}\n")
    pytester.makepyfile(NOTHING)
    result = pytester.runpytest()
    result.assert_outcomes(failed=1)
    what = "<class 'int'>" if given == "int" else "7"
    said = f"unchecked: the hook pytest_memreq_backend gave {what}; it gives a pytest_memreq.meas"
    assert said in result.stdout.str()
    assert "INTERNALERROR" not in result.stdout.str()


def test_a_limit_on_what_the_device_does_not_count_is_unchecked(scripted):
    scripted.makepyfile(
        """
        import pytest

        @pytest.mark.max_gpu_memory(reserved="1 GiB")
        def test_step(card):
            card.allocate(10)
        """
    )
    result = scripted.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*unchecked: the reserved peak is not known*"])


def test_an_error_in_setup_is_an_error(scripted):
    scripted.makepyfile(
        """
        import pytest

        @pytest.fixture
        def broken():
            raise OSError("no data")

        @pytest.mark.max_gpu_memory("1 GiB")
        def test_step(broken):
            pass
        """
    )
    result = scripted.runpytest("--memreq-report")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*error*test_step*"])


def test_switched_off_the_marker_does_nothing(scripted):
    scripted.makepyfile(NOTHING)
    result = scripted.runpytest("--memreq", "off", "--strict-markers")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["memreq: off"])


def test_all_leaves_tests_without_device_work_alone(scripted):
    scripted.makepyfile(
        """
        def test_on_the_cpu():
            pass

        def test_small(card):
            card.allocate(10)

        def test_large(card):
            card.allocate(1001)
        """
    )
    result = scripted.runpytest("--memreq-all", "--memreq-budget", "1000 B", "--memreq-report")
    result.assert_outcomes(passed=2, failed=1)
    assert "test_on_the_cpu" not in (scripted.path / "memreq-report/memreq.json").read_text()


def test_work_of_another_thread_is_unchecked_whatever_becomes_of_its_error(pytester):
    pytester.makepyfile(
        """
        from concurrent.futures import ThreadPoolExecutor

        import pytest
        import torch

        @pytest.mark.max_gpu_memory("1 GiB")
        def test_step():
            x = torch.ones(3, device="cuda")
            with ThreadPoolExecutor(1) as pool:
                pool.submit(lambda: x * 2)
        """
    )
    result = pytester.runpytest("--memreq=simulate")
    result.assert_outcomes(failed=1)
    said = "*unchecked: the allocated peak is not known: a thread that the test started works on*"
    result.stdout.fnmatch_lines([said])
