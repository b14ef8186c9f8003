"""`--memreq-calibration`: context and workspaces of a card that was measured."""

import json

import pytest
import torch

from pytest_memreq.plugin.config import read_settings
from pytest_memreq.reports.reading import read_baseline

MIB = 2**20
CONTEXT_BYTES = 500 * MIB
GOOD = {
    "format": 1,
    "gpu": "NVIDIA H200",
    "gpu_bytes": 143156 * MIB,
    "torch": torch.__version__,
    "cuda": "13.0",
    "driver": "580.65.06",
    "date": "2026-11-28T12:00:00+00:00",
    "context_bytes": CONTEXT_BYTES,
    "cublas_workspace_bytes": 16 * MIB,
}
STEP = """
    import pytest
    import torch

    @pytest.mark.max_gpu_memory({limits})
    def test_step(memreq):
        with memreq.measure("product") as span:
            one = torch.ones(64, 64, device=memreq.device)
            one @ one
        if {has_context}:
            assert span.peak.device_bytes == span.peak.reserved_bytes + 500 * 2**20
"""


def calibrated(pytester, **changes):
    path = pytester.path / "cal.json"
    path.write_text(json.dumps({**GOOD, **changes}))
    return "--memreq-calibration=cal.json"


def run(pytester, *options, limits="device='1 GiB'", has_context=False):
    """The result, and the one test of the report."""
    pytester.makepyfile(STEP.format(limits=limits, has_context=has_context))
    result = pytester.runpytest("--memreq=simulate", "--memreq-report", *options)
    report = json.loads((pytester.path / "memreq-report" / "memreq.json").read_text())
    return result, report["tests"][0]


def test_the_device_metric_is_known_and_the_workspace_is_that_of_the_card(pytester):
    result, test = run(pytester, calibrated(pytester), limits="device='600 MiB'", has_context=True)
    result.assert_outcomes(passed=1)
    peak = test["peak"]
    assert peak["device_bytes"] == peak["reserved_bytes"] + CONTEXT_BYTES
    assert test["absolute_peak"]["device_bytes"] == peak["device_bytes"]
    assert test["unknown"] == {}
    assert test["breakdown"]["context_bytes"] == CONTEXT_BYTES
    assert test["breakdown"]["workspaces_bytes"] == 16 * MIB
    assert peak["allocated_bytes"] == 16 * MIB + 2 * 64 * 64 * 4  # without the context
    told = f"NVIDIA H200, torch {torch.__version__}, CUDA 13.0, driver 580.65.06"
    result.stdout.fnmatch_lines(
        [
            f"memreq: simulated on NVIDIA H200, calibration cal.json (of {told})*",
            f"note: calibrated on {told}: context 500.00 MiB, cuBLAS workspace 16.00 MiB; kernels*",
        ]
    )


def test_the_context_makes_a_test_go_over_its_budget(pytester):
    result, test = run(pytester, calibrated(pytester), limits="device='500 MiB'")
    result.assert_outcomes(failed=1)
    assert test["verdict"] == "over"


def test_without_a_calibration_the_context_is_not_known(pytester):
    result, test = run(pytester)
    result.assert_outcomes(failed=1)
    assert (test["verdict"], test["peak"]["device_bytes"]) == ("unchecked", None)
    assert test["breakdown"]["context_bytes"] is None
    assert "--memreq-calibration tells it" in test["reason"]


@pytest.mark.parametrize(
    ("changes", "options", "simulated"),
    [
        ({"gpu": "NVIDIA H100 PCIe"}, (), "NVIDIA H200, torch {}"),
        ({"gpu": "H200"}, (), "NVIDIA H200, torch {}"),
        ({"torch": "2.9.1+cu128"}, (), "NVIDIA H200, torch {}"),
        ({}, ("--memreq-gpu=L4",), "NVIDIA L4, torch {}"),
    ],
)
def test_a_calibration_of_anything_else_is_named_and_not_used(
    pytester, changes, options, simulated
):
    result, test = run(pytester, calibrated(pytester, **changes), *options)
    simulated = simulated.format(".".join(torch.__version__.split(".")[:2]))
    assert test["peak"]["device_bytes"] is None
    assert test["breakdown"]["context_bytes"] is None
    assert test["breakdown"]["workspaces_bytes"] != 16 * MIB
    of = {**GOOD, **changes}
    note = f"the calibration is of {of['gpu']}, torch {of['torch']}, CUDA 13.0, driver 580.65.06"
    assert test["notes"] == [f"{note}; simulated is {simulated}: it is not used"]
    assert test["unknown"]["device"] == test["notes"][0]
    result.stdout.fnmatch_lines([f"note: {note}*"])


def test_a_context_that_was_not_measured_stays_unknown(pytester):
    _, test = run(pytester, calibrated(pytester, context_bytes=None, driver=None))
    assert (test["verdict"], test["peak"]["device_bytes"]) == ("unchecked", None)
    assert "made without NVML" in test["unknown"]["device"]
    assert test["breakdown"]["workspaces_bytes"] == 16 * MIB
    assert "context" not in test["notes"][0]


def test_a_workspace_that_was_not_measured_is_as_ever(pytester):
    _, plain = run(pytester)
    _, test = run(pytester, calibrated(pytester, cublas_workspace_bytes=None))
    assert test["peak"]["allocated_bytes"] == plain["peak"]["allocated_bytes"]


def test_cublas_own_variable_wins(pytester, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":1024:1")
    _, test = run(pytester, calibrated(pytester))
    assert test["breakdown"]["workspaces_bytes"] == MIB


def test_a_step_within_a_test_is_simulated_alike(pytester):
    option = calibrated(pytester)
    pytester.makepyfile("""
        import torch

        def step():
            torch.ones(64, device="cuda")
            free, total = torch.cuda.mem_get_info()
            assert total - free == 500 * 2**20 + 2 * 2**20

        def test_step(memreq):
            found = memreq.simulate(step)
            assert found.peak.device_bytes == found.peak.reserved_bytes + 500 * 2**20
            assert memreq.simulate(int, calibration=None).peak.device_bytes is None
    """)
    pytester.runpytest("--memreq=simulate", option).assert_outcomes(passed=1)


def test_the_context_leaves_less_of_the_card(pytester):
    option = calibrated(pytester, gpu="NVIDIA L4", gpu_bytes=None, context_bytes=20 * 2**30)
    pytester.makepyfile("""
        import pytest
        import torch

        @pytest.mark.max_gpu_memory("20 GiB")
        def test_step():
            torch.empty(2 * 2**30, dtype=torch.uint8, device="cuda")
    """)
    pytester.runpytest("--memreq=simulate", "--memreq-gpu=L4").assert_outcomes(passed=1)
    result = pytester.runpytest("--memreq=simulate", "--memreq-gpu=L4", option)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*OutOfMemoryError*"])


def test_what_grew_since_the_baseline_is_without_the_context(pytester):
    source = """
        import pytest
        import torch

        @pytest.mark.max_gpu_memory("1 GiB")
        def test_step():
            torch.ones({0}, device="cuda")
    """
    pytester.makepyfile(source.format(1024))
    pytester.runpytest("--memreq=simulate", "--memreq-update=new", "--memreq-update-in-ci")
    pytester.makepyfile(source.format(2048))
    result = pytester.runpytest("--memreq=simulate", calibrated(pytester))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "    +4.00 KiB against the baseline: inputs +4.00 KiB",
            "    +4.00 KiB inputs: (1024,) -> (2048,) float32 at *",
            "    inputs 8.00 KiB (100%), beside it context 500.00 MiB",
        ]
    )


def test_a_baseline_has_the_device_metric_too(pytester):
    run(pytester, calibrated(pytester), "--memreq-update=new", "--memreq-update-in-ci")
    [entry] = read_baseline(pytester.path / "memreq-baseline.json").entries
    assert entry.peak.device_bytes > CONTEXT_BYTES
    assert entry.largest.rest_bytes == 0  # of allocated, as ever


def test_what_is_measured_needs_no_calibration(scripted):
    scripted.makepyfile("""
        import pytest

        @pytest.mark.max_gpu_memory(1000)
        def test_step(card):
            card.allocate(1000)
    """)
    result = scripted.runpytest("--memreq=measure", "--memreq-report", calibrated(scripted))
    result.assert_outcomes(passed=1)
    assert "cal.json" not in result.stdout.str()
    assert "calibrated" not in result.stdout.str()


def test_the_setting_is_relative_to_its_file_and_the_option_to_where_pytest_starts(pytester):
    pytester.makepyprojecttoml("[tool.memreq]\ncalibration = 'ci/cal.json'")
    pytester.mkdir("ci")
    config = pytester.parseconfig()
    assert read_settings(config).calibration == pytester.path / "ci" / "cal.json"
    config.option.memreq_calibration = "cal.json"
    assert read_settings(config).calibration == pytester.path / "cal.json"


def test_the_doctor_names_it(pytester):
    result = pytester.runpytest("--memreq=simulate", "--memreq-doctor", calibrated(pytester))
    result.stdout.fnmatch_lines([f"calibration *of NVIDIA H200, torch {torch.__version__}*"])


def text_of(**changes):
    return json.dumps({**GOOD, **changes}).encode()


BAD = {
    "torn": (text_of()[:100], "is not JSON"),
    "empty": (b"", "is not JSON"),
    "no UTF-8": (b"\xff\xfe\xfa", "is not UTF-8"),
    "a list": (b"[]", "holds a list instead of an object"),
    "deep": (b"[" * 60_000, "nested too deep"),
    "of the future": (text_of(format=2), "is of format 2, made by a newer version"),
    "of no format": (text_of(format="1"), "has \"format\" '1'; right is 1"),
    "a key too many": (text_of(more=1), "unknown 'more'; known are format, gpu, gpu_bytes"),
    "no context": (
        json.dumps({k: v for k, v in GOOD.items() if k != "context_bytes"}).encode(),
        "has no 'context_bytes'",
    ),
    "NaN": (text_of(context_bytes=float("nan")), "has NaN, which is no number"),
    "a fraction": (text_of(context_bytes=1.5), "context_bytes: 1.5 is not a whole number"),
    "text": (text_of(context_bytes="1 GiB"), "context_bytes: '1 GiB' is not a whole number"),
    "true": (text_of(cublas_workspace_bytes=True), "cublas_workspace_bytes: true is not a whole"),
    "negative": (text_of(context_bytes=-1), "context_bytes: -1 is not from 0 to 2^63 - 1"),
    "2^63": (text_of(context_bytes=2**63), "context_bytes: 9223372036854775808 is not from 0"),
    "zero": (text_of(context_bytes=0), "context_bytes: 0 is not a size; what is not known is null"),
    "more than the card": (
        text_of(cublas_workspace_bytes=2**50),
        "cublas_workspace_bytes: 1125899906842624 is more than the card has",
    ),
    "no name": (text_of(gpu=None), "gpu: null is not text"),
    "no version": (text_of(torch="nightly"), "torch: 'nightly' is no version; write 2.13.0"),
    "twice": (b'{"format": 1, "format": 1}', "has 'format' twice"),
    "a command": (text_of(torch="\n::error::x"), r"torch: '\n::error::x' is no version"),
    "huge": (text_of(driver="x" * 70_000), "is larger than 64.00 KiB"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_ends_the_run_before_any_test(scripted, name):
    content, words = BAD[name]
    (scripted.path / "cal.json").write_bytes(content)
    scripted.makepyfile("def test_x(): pass")
    result = scripted.runpytest("--memreq-calibration=cal.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (error,) = [line for line in result.stderr.lines if line.startswith("ERROR")]
    assert "cal.json: " in error
    assert words in error
    assert "passed" not in result.stdout.str()


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("calibration = ''", "calibration: '' is not a file's name"),
        ("calibration = 3", "calibration: 3 is not a file's name"),
        ("calibration = 'no.json'", "no.json: is not there"),
        ("calibration = '.'", ": is not a file"),
    ],
)
def test_a_bad_name_ends_the_run(scripted, table, words):
    scripted.makepyprojecttoml(f"[tool.memreq]\n{table}\n")
    result = scripted.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert words in result.stderr.str()


def test_where_nothing_is_checked_it_is_not_read(pytester):
    pytester.makepyfile("def test_x(): pass")
    pytester.runpytest("--memreq=off", "--memreq-calibration=no").assert_outcomes(passed=1)
