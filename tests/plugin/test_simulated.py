"""Marked tests on a machine without a card: simulated, truthful, and apart from other tests."""

import json
import subprocess
import sys

import pytest


@pytest.fixture
def report(pytester):
    """The report of a run that simulates, by test name."""

    def run(*options):
        result = pytester.runpytest("--memreq", "simulate", "--memreq-report", *options)
        path = pytester.path / "memreq-report" / "memreq.json"
        tests = json.loads(path.read_text())["tests"]
        return result, {test["nodeid"].rpartition("::")[2]: test for test in tests}

    return run


def test_a_budget_at_the_peak_passes_and_one_byte_below_fails(pytester, report):
    source = """
        import pytest
        import torch

        @pytest.mark.max_gpu_memory({limit})
        def test_step():
            model = torch.nn.Linear(1024, 1024, device="cuda")
            model(torch.randn(64, 1024, device="cuda")).sum().backward()
    """
    pytester.makepyfile(source.format(limit=2**40))
    _, tests = report()
    peak_bytes = tests["test_step"]["peak"]["allocated_bytes"]
    assert peak_bytes > 4 * 2**20
    pytester.makepyfile(source.format(limit=peak_bytes))
    result, _ = report()
    result.assert_outcomes(passed=1)
    pytester.makepyfile(source.format(limit=peak_bytes - 1))
    result, tests = report()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert tests["test_step"]["verdict"] == "over"
    output = result.stdout.str()
    message = output[output.index("MemoryBudgetExceeded") :]
    for words in (
        "::test_step: allocated peak",
        f"({peak_bytes:,} bytes) is over the budget of",
        f"({peak_bytes - 1:,} bytes) by 1 byte",
        "live at the peak, largest first:",
    ):
        assert words in message
    sites = message[message.index("largest first:") :].split("\n")[1:4]
    assert all("iB " in site for site in sites), sites


def test_memory_over_time_is_in_the_report_and_on_the_page(pytester, report):
    pytester.makepyfile("""
        import pytest
        import torch

        @pytest.mark.max_gpu_memory("1 GiB")
        def test_step():
            for size in range(300):
                torch.empty(2**20 * (size % 7 + 1), device="cuda")
    """)
    _, tests = report()
    timeline = tests["test_step"]["timeline"]
    assert 50 < len(timeline) <= 120
    assert timeline[0] == [0, 0]
    assert [at for at, _ in timeline] == sorted({at for at, _ in timeline})
    peak_bytes = tests["test_step"]["peak"]["allocated_bytes"]
    assert max(size for _, size in timeline) == peak_bytes
    page = (pytester.path / "memreq-report" / "index.html").read_text(encoding="utf-8")
    assert "over 600 allocations and frees: peak 28.00 MiB" in page


def test_device_and_skipif_at_module_level_come_out_as_with_a_card(pytester, report):
    pytester.makepyfile(
        """
        import pytest
        import torch

        DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
        pytestmark = pytest.mark.max_gpu_memory("1 MiB")

        def test_chosen_device():
            torch.zeros(10, device=DEVICE)

        @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a card")
        def test_skipif():
            torch.zeros(10, device="cuda")

        @pytest.mark.skipif("not __import__('torch').cuda.is_available()", reason="needs a card")
        def test_skipif_text():
            torch.zeros(10, device="cuda")
        """
    )
    result, tests = report()
    result.assert_outcomes(passed=3)
    assert {test["verdict"] for test in tests.values()} == {"within"}


def test_a_device_chosen_elsewhere_to_be_the_cpu_cannot_pass(pytester, report):
    pytester.makepyfile(settings="import torch\nDEVICE = 'cpu'")
    pytester.makepyfile(
        """
        import pytest
        import torch
        from settings import DEVICE

        @pytest.mark.max_gpu_memory("1 GiB")
        def test_step():
            torch.zeros(10, device=DEVICE)
        """
    )
    result, tests = report()
    result.assert_outcomes(failed=1)
    assert tests["test_step"]["reason"].startswith("nothing was allocated on the device; move")


def test_other_tests_of_the_module_are_not_run_on_half_a_pretence(pytester, report):
    pytester.makepyfile(
        """
        import pytest
        import torch

        DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

        @pytest.mark.max_gpu_memory("1 MiB")
        def test_checked():
            torch.zeros(10, device=DEVICE)

        def test_needs_a_card():
            assert torch.ones(10, device=DEVICE).sum().item() == 10

        def test_needs_none():
            assert torch.ones(10).sum().item() == 10
        """
    )
    result, tests = report("-rs")
    result.assert_outcomes(passed=2, skipped=1)
    result.stdout.fnmatch_lines(["*needs a CUDA device, which is only pretended here*"])
    assert list(tests) == ["test_checked"]


def test_modules_without_budgets_see_the_machine_as_it_is(pytester):
    pytester.makepyfile(
        """
        import torch

        AVAILABLE = torch.cuda.is_available()

        def test_plain():
            assert AVAILABLE == torch.cuda.is_available() == (torch.cuda.device_count() > 0)
        """
    )
    pytester.runpytest("--memreq", "simulate").assert_outcomes(passed=1)


def test_fixtures_never_hand_pretended_tensors_to_other_tests(pytester, report):
    pytester.makeconftest(
        """
        import pytest
        import torch

        @pytest.fixture(scope="session")
        def tensor():
            return torch.ones(10, device="cuda" if torch.cuda.is_available() else "cpu")
        """
    )
    pytester.makepyfile(
        test_a="""
        import pytest

        @pytest.mark.max_gpu_memory("1 MiB")
        def test_first(tensor):
            assert tensor.is_cuda

        @pytest.mark.max_gpu_memory("1 MiB")
        def test_second(tensor):
            assert (tensor + 1).is_cuda
        """,
        test_b="""
        def test_real(tensor):
            assert tensor.sum().item() == 10
        """,
        test_c="""
        import pytest

        @pytest.mark.max_gpu_memory("1 MiB")
        def test_last(tensor):
            assert tensor.is_cuda
        """,
    )
    result, tests = report()
    result.assert_outcomes(passed=4)
    assert tests["test_second"]["held_bytes"] == 512


def test_an_assertion_on_a_made_up_value_is_unchecked(pytester, report):
    pytester.makepyfile(
        """
        import pytest
        import torch

        @pytest.mark.max_gpu_memory("1 MiB")
        def test_step():
            assert torch.randn(10, device="cuda").sum().item() == 10
        """
    )
    result, tests = report()
    result.assert_outcomes(failed=1)
    assert tests["test_step"]["verdict"] == "unchecked"
    assert tests["test_step"]["reason"].startswith("needs real values (item() at test_an_assert")


def test_another_error_after_a_made_up_value_says_that_there_was_one(pytester, report):
    pytester.makepyfile(
        """
        import pytest
        import torch

        pytestmark = pytest.mark.max_gpu_memory("1 MiB")

        def test_after():
            [1, 2][int(torch.randn(10, device="cuda").sum().item()) + 2]

        def test_before():
            torch.zeros(3, device="cuda")
            raise IndexError
        """
    )
    _, tests = report()
    assert {test["verdict"] for test in tests.values()} == {"error"}
    assert tests["test_before"]["reason"] == "the test raised IndexError"
    said = "the test raised IndexError, after values were made up (item() at test_another_error"
    assert tests["test_after"]["reason"].startswith(said)


def test_what_cannot_be_simulated_is_unchecked_and_harms_no_other_test(pytester, report):
    pytester.makepyfile(
        """
        import pytest
        import torch

        pytestmark = pytest.mark.max_gpu_memory("1 MiB")

        def test_impossible():
            torch.randint(1, 20, (300,), device="cuda").bincount()

        def test_possible():
            torch.zeros(10, device="cuda")
        """
    )
    result, tests = report()
    result.assert_outcomes(passed=1, failed=1)
    assert tests["test_impossible"]["verdict"] == "unchecked"
    assert "cannot be simulated" in tests["test_impossible"]["reason"]


def test_the_cards_name_decides_capacity_and_kernels(pytester, report):
    pytester.makepyfile(
        """
        import pytest
        import torch

        @pytest.mark.max_gpu_memory("50%", gpu="Tesla T4")
        def test_on_a_t4():
            assert torch.cuda.get_device_name() == "Tesla T4"
            torch.zeros(10, device="cuda")

        @pytest.mark.max_gpu_memory("50%")
        def test_on_the_runs_card():
            assert torch.cuda.get_device_name() == "NVIDIA L4"
            torch.zeros(10, device="cuda")
        """
    )
    result, tests = report("--memreq-gpu", "L4")
    result.assert_outcomes(passed=2)
    budgets = [test["budget"]["allocated_bytes"] for test in tests.values()]
    assert budgets[0] < budgets[1]
    assert [test["gpu"] for test in tests.values()] == ["Tesla T4", "NVIDIA L4"]


def test_the_fixture_gives_a_device_regions_and_checks(pytester, report):
    pytester.makepyfile(
        """
        import pytest
        import torch
        from pytest_memreq import MemoryBudgetExceeded

        def test_fixture(memreq):
            assert memreq.device.type == "cuda"
            with memreq.measure("small") as small:
                torch.zeros(2**20, dtype=torch.uint8, device=memreq.device)
            with memreq.measure("large") as large:
                torch.zeros(2**22, dtype=torch.uint8, device=memreq.device)
            assert small.peak.requested_bytes == 2**20
            assert memreq.compare(large, small).ratio == 4
            memreq.check(small, "1 MiB")
            with pytest.raises(MemoryBudgetExceeded, match="by 1 byte"):
                memreq.check(small, 2**20 - 1)
            inner = memreq.simulate(lambda: torch.zeros(2**21, dtype=torch.uint8, device="cuda"))
            assert inner.peak.requested_bytes == 2**21
            model = torch.nn.Linear(10, 10)
            assert memreq.estimate(model, torch.zeros(1, 10)).total_bytes == 110 * 20 + 20 * 4
        """
    )
    result, tests = report()
    result.assert_outcomes(passed=1)
    assert tests == {}


def test_workers_print_the_same_table(pytester):
    pytester.makepyfile(
        """
        import pytest
        import torch

        @pytest.mark.max_gpu_memory("4 MiB")
        @pytest.mark.parametrize("mebibytes", [1, 3, 5])
        def test_step(mebibytes):
            torch.zeros(mebibytes, 2**20, dtype=torch.uint8, device="cuda")
        """
    )

    def section(*options):
        result = pytester.runpytest_subprocess("--memreq-report", *options)
        lines = result.stdout.lines
        start = next(at for at, line in enumerate(lines) if " GPU memory " in line)
        end = next(at for at, line in enumerate(lines) if "short test summary" in line)
        return lines[start:end]

    plain = section()
    assert plain == section("-n2")
    assert sum("test_step[" in line for line in plain) >= 3


def test_collecting_without_torch_in_the_tests_imports_no_torch(pytester):
    pytester.makepyfile(
        """
        import pytest

        def test_plain():
            pass

        @pytest.mark.max_gpu_memory("1 GiB")
        def test_marked():
            pass
        """
    )
    command = [sys.executable, "-X", "importtime", "-m", "pytest", "--collect-only", "-q"]
    done = subprocess.run(
        command, cwd=pytester.path, capture_output=True, text=True, check=True, timeout=60
    )
    assert "pytest_memreq.plugin" in done.stderr
    assert not [line for line in done.stderr.splitlines() if line.split("|")[-1].strip() == "torch"]


def test_the_workspaces_of_products_are_as_the_environment_says(pytester, report, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:1")
    pytester.makepyfile(
        """
        import pytest
        import torch

        @pytest.mark.max_gpu_memory("1 GiB")
        def test_product():
            a = torch.ones(8, 8, device="cuda")
            assert (a @ a).shape == (8, 8)
        """
    )
    _, tests = report()
    assert tests["test_product"]["breakdown"]["workspaces_bytes"] == 4096 * 2**10
