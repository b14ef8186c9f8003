"""Marked tests measured on a card, in runs of their own."""

import random

import pytest
import torch

from tests.plugin.reports_of import peaks_of, results_of

SUITE = """
    import pytest
    import torch
    from torch import nn

    torch.backends.cudnn.enabled = {cudnn}
    KEPT = []

    pytestmark = pytest.mark.max_gpu_memory("4 GiB")

    @pytest.fixture(scope="session")
    def model():
        model = nn.Sequential(nn.Linear(512, 2048), nn.ReLU(), nn.Linear(2048, 512)).cuda()
        model(torch.randn(8, 512, device="cuda"))  # a product: its workspace is not the model's
        return model

    @pytest.fixture(scope="module")
    def batch():
        return torch.randn(256, 512, device="cuda")

    def test_inference(model, batch):
        with torch.no_grad():
            model(batch)

    def test_training(batch):
        own = nn.Linear(512, 512).cuda()
        optimizer = torch.optim.Adam(own.parameters())
        for _ in range(2):
            own(batch).sum().backward()
            optimizer.step()
            optimizer.zero_grad()

    def test_elementwise():
        x = torch.ones(1000, 1000, device="cuda")
        (x + 1) * 2

    def test_leaves_something():
        KEPT.append(torch.ones(3_000_000, device="cuda"))

    def test_fails_midway(batch):
        held = torch.ones(5_000_000, device="cuda") @ torch.ones(5_000_000, device="cuda")
        raise ValueError(held.shape)

    def test_cycles():
        class Node:
            def __init__(self):
                self.itself = self
                self.tensor = torch.ones(100_000, device="cuda")

        for _ in range(50):
            Node()

    @pytest.mark.parametrize("size", [10, 10_000, 10_000_000])
    def test_sizes(size):
        torch.empty(size, dtype=torch.uint8, device="cuda")
"""
NAMES = (
    *("test_inference", "test_training", "test_elementwise", "test_leaves_something"),
    *("test_fails_midway", "test_cycles", "test_sizes[10]", "test_sizes[10000]"),
    "test_sizes[10000000]",
)


@pytest.fixture
def suite(pytester):
    # Not while the module is imported: the plugin pretends a card to those that ask then.
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    # A stand-in for the driver's libraries computes nothing and has no cuDNN.
    has_kernels = torch.ones(1, device="cuda").item() == 1
    pytester.makepyfile(test_suite=SUITE.format(cudnn=has_kernels))
    return pytester


def run(pytester, names=NAMES, *options):
    ids = [f"test_suite.py::{name}" for name in names]
    pytester.runpytest_subprocess("--memreq-report", "-p", "no:randomly", *options, *ids)
    return {m: peaks_of(pytester, m) for m in ("requested", "allocated", "reserved")}


def test_the_same_figures_in_any_order_alone_and_among_workers(suite):
    clean = [name for name in NAMES if name not in ("test_leaves_something", "test_fails_midway")]
    first = run(suite, clean)
    shuffled = list(clean)
    for seed in range(3):
        random.Random(seed).shuffle(shuffled)
        assert run(suite, shuffled) == first
    assert run(suite, clean, "-n2") == first
    for name in clean:
        alone = run(suite, [name])
        assert alone == {metric: {name: peaks[name]} for metric, peaks in first.items()}


def test_what_others_left_does_not_count(suite):
    first, last = NAMES[:3], NAMES[3:5]
    clean = run(suite, first)
    after = run(suite, [*last, *first])
    for name in first:
        assert after["requested"][name] == clean["requested"][name]
        assert after["allocated"][name] == clean["allocated"][name]
        assert after["reserved"][name] == clean["reserved"][name]
        held = results_of(suite)[name]["held_by"]
        assert "test_suite.py::test_leaves_something" in [each["who"] for each in held]


def test_figures_are_those_of_torch(suite):
    run(suite, ["test_elementwise", "test_sizes[10000000]"])
    tests = results_of(suite)
    assert tests["test_elementwise"]["peak"]["requested_bytes"] == 3 * 4_000_000
    assert tests["test_sizes[10000000]"]["peak"]["requested_bytes"] == 10_000_000


TROUBLE = """
    import pytest
    import torch
    from torch import nn

    torch.backends.cudnn.enabled = False
    KEPT = []

    @pytest.mark.max_gpu_memory("100 MiB", enforce="cap")
    def test_cap():
        first = torch.empty(60 << 20, dtype=torch.uint8, device="cuda")
        second = torch.empty(70 << 20, dtype=torch.uint8, device="cuda")

    @pytest.mark.max_gpu_memory("1 GiB")
    def test_after_the_cap():
        torch.empty(300 << 20, dtype=torch.uint8, device="cuda")

    @pytest.mark.max_gpu_memory("10 TiB")
    def test_out_of_memory():
        torch.empty(1 << 50, dtype=torch.uint8, device="cuda")

    @pytest.mark.max_gpu_memory("1 MiB")
    def test_over():
        model = nn.Linear(512, 512).cuda()
        model(torch.randn(64, 512, device="cuda")).sum().backward()

    @pytest.mark.max_gpu_leak(0)
    def test_leaks():
        KEPT.append(torch.ones(1000, device="cuda"))

    @pytest.mark.max_gpu_leak(0)
    def test_does_not_leak():
        nn.Linear(512, 512).cuda()(torch.randn(64, 512, device="cuda")).sum().backward()

    @pytest.mark.max_gpu_memory("1 GiB", isolate=True)
    def test_isolated():
        torch.empty(300 << 20, dtype=torch.uint8, device="cuda")
"""


def test_trouble(suite):
    suite.makepyfile(test_trouble=TROUBLE)
    result = suite.runpytest_subprocess("--memreq-report", "test_trouble.py")
    result.assert_outcomes(passed=3, failed=4)
    tests = results_of(suite)
    assert tests["test_cap"]["verdict"] == "over"
    assert "(73,400,320 bytes) with 60.00 MiB (62,914,560 bytes)" in tests["test_cap"]["reason"]
    result.stdout.fnmatch_lines([">*second = torch.empty(70 << 20,*"])
    assert tests["test_after_the_cap"]["peak"]["allocated_bytes"] == 300 << 20
    assert tests["test_out_of_memory"]["verdict"] == "over"
    assert tests["test_isolated"]["held_bytes"] == 0
    assert tests["test_leaks"]["reason"].startswith("leaks 4.00 KiB (4,096 bytes) each time")
    assert tests["test_leaks"]["survivors"][0]["referrers"][0] == "a list, KEPT of test_trouble"
    over = tests["test_over"]
    assert over["breakdown"]["parameters_bytes"] == 512 * 512 * 4 + 512 * 4
    assert over["sites"][0]["bytes"] > 0
    assert any("from a second run" in note for note in over["notes"])
    assert (suite.path / "memreq-report" / over["snapshot"]).stat().st_size > 0


SPOILED = """
    import pytest
    import torch

    KEPT = []
    MIB = 1 << 20

    pytestmark = pytest.mark.max_gpu_memory("20 MiB")

    def empty(size):
        return torch.empty(size, dtype=torch.uint8, device="cuda")

    @pytest.mark.parametrize("reset", [
        torch.cuda.reset_peak_memory_stats,
        torch.cuda.reset_accumulated_memory_stats,
        torch.cuda.reset_max_memory_allocated,
        torch.accelerator.reset_peak_memory_stats,
        torch.accelerator.reset_accumulated_memory_stats,
    ])
    def test_resets(reset):
        empty(50 * MIB)
        reset()
        empty(MIB)

    def test_leaves_something():
        KEPT.append(empty(4 * MIB))

    def test_takes_its_place():
        KEPT.clear()
        mine = empty(4 * MIB)
        KEPT.append(mine)

    def test_finds_that_ones():
        empty(1 * MIB)
"""


def test_what_would_spoil_the_figures(suite):
    suite.makepyfile(test_spoiled=SPOILED)
    suite.runpytest_subprocess("--memreq-report", "test_spoiled.py").assert_outcomes(
        passed=3, failed=5
    )
    tests = results_of(suite)
    resets = [test for name, test in tests.items() if name.startswith("test_resets")]
    assert [test["peak"]["allocated_bytes"] for test in resets] == [50 << 20] * 5
    assert [test["verdict"] for test in resets] == ["over"] * 5
    place = tests["test_takes_its_place"]
    # Twice: what the other left was there until it went away.
    assert place["peak"]["allocated_bytes"] == 4 << 20
    assert place["leaked_bytes"] == 4 << 20
    assert "went away meanwhile" in " ".join(place["notes"])
    (holder,) = tests["test_finds_that_ones"]["held_by"]
    assert holder == {"who": "test_spoiled.py::test_takes_its_place", "bytes": 4 << 20}
    assert tests["test_finds_that_ones"]["peak"]["allocated_bytes"] == 1 << 20


ASYNC = """
    import pytest
    import torch

    @pytest.fixture(scope="session")
    def weights():
        return torch.empty(3 << 20, dtype=torch.uint8, device="cuda")

    @pytest.mark.max_gpu_memory("20 MiB")
    def test_step(weights):
        torch.empty(5 << 20, dtype=torch.uint8, device="cuda")

    @pytest.mark.max_gpu_memory(1)
    def test_over(weights):
        torch.empty(5 << 20, dtype=torch.uint8, device="cuda")
"""


def test_an_allocator_that_counts_nothing_is_not_measured(suite, monkeypatch):
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "backend:cudaMallocAsync")
    suite.makepyfile(test_async=ASYNC)
    result = suite.runpytest_subprocess("--memreq-report", "test_async.py")
    result.assert_outcomes(failed=2)
    tests = results_of(suite)
    assert {test["verdict"] for test in tests.values()} == {"unchecked"}
    assert "the allocator is cudaMallocAsync" in tests["test_step"]["reason"]
