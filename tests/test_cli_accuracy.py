"""`memreq validate --device`: the table of errors, and the calibration that it writes."""

import argparse
import gc
import json
import subprocess
import sys
from functools import partial

import pytest
import torch

from pytest_memreq.cli import main, own_process, validate
from pytest_memreq.measure.backends import Outside
from pytest_memreq.measure.meter import DeviceMeter
from pytest_memreq.measure.selftest import Outcome, Workload, measure
from pytest_memreq.measure.workloads import WORKLOADS
from pytest_memreq.requirement import Peak
from pytest_memreq.simulate.calibration import from_text
from tests.measure.test_selftest import ScriptedCard, takes, three

MIB = 2**20


class CudaCard(ScriptedCard):
    """Its product takes a workspace, and it knows what is beside its allocator."""

    def __init__(self, name="NVIDIA H200", outside=None, workspace_bytes=2 * MIB):
        super().__init__()
        self.name = name
        self.beside = outside or Outside(bytes=300 * MIB)
        self.workspace_bytes = workspace_bytes

    def card_name(self):
        return self.name

    def capacity_bytes(self):
        return 143156 * MIB

    def compute_capability(self):
        return 9, 0

    def outside(self):
        return self.beside

    def multiplying(self, _):
        self.allocate(9 * MIB)  # what making operands takes is not the product's
        self.free(9 * MIB - 1000)
        return self.multiply

    def multiply(self):
        self.allocate(self.workspace_bytes)
        self.free(self.workspace_bytes + 1000)


@pytest.fixture(autouse=True)
def quick_collections():
    """Only what a test makes is looked through; torch's objects take a quarter of a second."""
    gc.freeze()
    yield
    gc.unfreeze()


def peak_of(size_bytes):
    return Outcome(peak=Peak(requested_bytes=size_bytes, allocated_bytes=size_bytes))


SIMULATED = {"a": peak_of(100), "b": peak_of(2_000), "c": peak_of(30)}


def run(*options, card=None, make_workloads=three, simulated=SIMULATED):
    """The exit code on a scripted card, of which simulations say what is given."""
    card = card or CudaCard()

    def alone(workload):
        fresh = CudaCard(card.name)
        [same] = [w for w in make_workloads(fresh) if w.name == workload.name]
        return measure(DeviceMeter([fresh]), fresh.device(), same)

    parser = argparse.ArgumentParser()
    validate.add_to(parser)
    arguments = parser.parse_args(["--device", "--repeats=2", *options])
    apart = validate.Apart(measured=alone, simulated=lambda *_: simulated)
    workloads = make_workloads(card)
    return validate.validate([card], workloads, apart, arguments, multiplying=card.multiplying)


def table(out):
    """The lines from the table of errors on, blanks apart."""
    lines = [" ".join(line.split()) for line in out.splitlines()]
    [at] = [n for n, line in enumerate(lines) if line.startswith("Simulated on ")]
    return [line for line in lines[at:] if line]


def test_simulations_that_agree(capsys):
    assert run() == 0
    out, err = capsys.readouterr()
    assert "all workloads: simulated on NVIDIA H200, in a process of its own" in err
    assert table(out) == [
        "Simulated on NVIDIA H200, beside what was measured; ! is further than 5 %, 2.00 MiB:",
        "Workload Metric Measured Simulated Difference Share",
        "a requested 100 B 100 B +0 B 0",
        "a allocated 100 B 100 B +0 B 0",
        "b requested 2,000 B 2,000 B +0 B 0",
        "b allocated 2,000 B 2,000 B +0 B 0",
        "c requested 30 B 30 B +0 B 0",
        "c allocated 30 B 30 B +0 B 0",
        "Metric Workloads Equal Median p95 Worst",
        "requested 3 3 0 0 -",
        "allocated 3 3 0 0 -",
        "steady: each workload had the same requested, allocated and reserved peak every time",
    ]


def large(card):
    sizes = (("a", 100 * MIB), ("b", 200 * MIB), ("c", 1000 * MIB), ("d", 10 * MIB))
    return [takes(card, name, size) for name, size in sizes]


FAR = {
    "a": peak_of(100 * MIB - 1),
    "b": peak_of(150 * MIB),
    "c": peak_of(1010 * MIB),
    "d": Outcome(failure="SimulationError: needs real values"),
}


def test_errors_are_listed_and_add_up_and_what_is_missing_is_named(capsys):
    assert run(make_workloads=large, simulated=FAR) == 0
    lines = table(capsys.readouterr().out)
    assert [line for line in lines if "B" in line and " allocated " in line] == [
        "a allocated 104,857,600 B 104,857,599 B -1 B -<0.01%",
        "b allocated 209,715,200 B 157,286,400 B -52,428,800 B -25.00% !",
        "c allocated 1,048,576,000 B 1,059,061,760 B +10,485,760 B +1.00%",
    ]
    assert "allocated 3 0 1.00% 25.00% -25.00% (b)" in lines
    assert "d: not simulated: SimulationError: needs real values" in lines


@pytest.mark.parametrize(
    ("simulated", "options", "code"),
    [
        (FAR, ["--divergence=10 %"], 1),
        (FAR, ["--divergence=30 %"], 2),  # one was not compared
        ({**FAR, "d": peak_of(10 * MIB)}, ["--divergence=30 %"], 0),
        ({**FAR, "d": peak_of(10 * MIB)}, ["--divergence=24 %"], 1),
        ({}, ["--divergence=30 %"], 2),
        (FAR, [], 0),
    ],
)
def test_simulations_decide_only_by_a_bound_that_was_given(simulated, options, code):
    assert run(*options, make_workloads=large, simulated=simulated) == code


def test_a_meter_that_is_not_steady_is_judged_first(capsys):
    def fails(card):
        return [takes(card, "a", 5, error=RuntimeError("no kernel"))]

    assert run("--divergence=5 %", make_workloads=fails, simulated={}) == 1
    assert "not steady" in capsys.readouterr().out


def test_the_document_has_it_all(capsys, tmp_path):
    output = tmp_path / "all.json"
    run("--json", f"--output={output}", make_workloads=large, simulated=FAR)
    document = json.loads(capsys.readouterr().out)
    assert json.loads(output.read_text(encoding="utf-8")) == document
    found = document["simulation"]
    assert (found["gpu"], found["is_same_gpu"], found["reason"]) == ("NVIDIA H200", True, None)
    assert found["bound"] == "5 %, 2.00 MiB"
    assert found["rows"][3] == {
        "workload": "b",
        "metric": "allocated",
        "measured_bytes": 200 * MIB,
        "simulated_bytes": 150 * MIB,
        "difference_bytes": -50 * MIB,
        "share": -0.25,
        "is_beyond": True,
    }
    assert found["not_simulated"] == [
        {"workload": "d", "reason": "SimulationError: needs real values"}
    ]
    assert found["totals"][0] == {
        "metric": "requested",
        "workloads": 3,
        "equal": 0,
        "median_share": pytest.approx(0.01),
        "p95_share": 0.25,
        "worst_share": -0.25,
        "worst_workload": "b",
    }


def test_of_a_card_that_is_not_known_the_nearest_is_simulated(capsys):
    assert run("--json", card=CudaCard("NVIDIA H200 NVL")) == 0
    found = json.loads(capsys.readouterr().out)["simulation"]
    assert (found["gpu"], found["is_same_gpu"]) == ("NVIDIA H200", False)
    run(card=CudaCard("NVIDIA H200 NVL"))
    lines = table(capsys.readouterr().out)
    assert "NVIDIA H200, the nearest that is known to NVIDIA H200 NVL, beside" in lines[0]


def test_what_is_no_cuda_device_is_compared_with_none(capsys):
    card = CudaCard("Apple M4")
    card.compute_capability = lambda: None
    assert run("--divergence=5 %", card=card) == 2
    assert "not simulated: no known card is like Apple M4" in capsys.readouterr().out


def test_the_process_that_simulates_all_has_a_peak_of_each(capsys):
    assert main(["validate", "--device", "--simulated", "NVIDIA H200"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    names = [workload.name for workload in WORKLOADS]
    done = subprocess.CompletedProcess([], 0, stdout=f"a library's greeting\n{out}", stderr="")
    outcomes = own_process.outcomes_of(done, names)
    assert list(outcomes) == names
    assert {name: each.failure for name, each in outcomes.items() if each.failure} == {}
    assert all(each.peak.reserved_bytes >= 2 * MIB for each in outcomes.values())


def test_a_workload_that_cannot_be_simulated_leaves_the_others_theirs():
    def asks(_):
        torch.cuda.memory_snapshot()

    def ones(count, device):
        torch.ones(count, device=device)

    workloads = [
        Workload(name="asks", run=asks),
        Workload(name="is full", run=partial(ones, 2**60)),
        Workload(name="works", run=partial(ones, 100)),
    ]
    found = own_process.simulate_here(workloads, "NVIDIA L4")
    assert "SimulationError: torch.cuda.memory_snapshot() cannot" in found["asks"].failure
    assert "OutOfMemoryError: CUDA out of memory (simulated)" in found["is full"].failure
    assert found["works"].peak.requested_bytes == 400


def test_a_process_that_dies_is_the_reason_for_all():
    code = "import os, sys; print('out of luck', file=sys.stderr, flush=True); os._exit(70)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    gone = Outcome(failure="its process ended with 70 and said: out of luck")
    assert own_process.outcomes_of(done, ["a", "b"]) == {"a": gone, "b": gone}


@pytest.fixture
def written(tmp_path, monkeypatch, capsys):
    """Write a calibration, and read it; what was said on stderr."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.delenv("CUBLASLT_WORKSPACE_SIZE", raising=False)

    def write(card):
        path = tmp_path / "cal.json"
        assert run(f"--calibration={path}", card=card) == 0
        return from_text(path.read_bytes(), "cal.json"), capsys.readouterr().err

    return write


def test_a_calibration_says_what_the_card_holds(written):
    found, said = written(CudaCard())
    assert (found.gpu, found.gpu_bytes) == ("NVIDIA H200", 143156 * MIB)
    assert found.torch == torch.__version__
    assert found.context_bytes == 300 * MIB
    assert found.cublas_workspace_bytes == 2 * MIB  # without the operands
    assert "context: 300.00 MiB (314,572,800 bytes)" in said
    assert "cuBLAS workspace: 2.00 MiB (2,097,152 bytes)" in said
    assert "no simulation will use it" not in said


def test_what_is_not_known_is_null_and_says_why(written):
    found, said = written(
        CudaCard("NVIDIA H200 NVL", Outside(reason="nvidia-ml-py is not installed"), 0)
    )
    assert (found.context_bytes, found.cublas_workspace_bytes) == (None, None)
    assert "context: not known: nvidia-ml-py is not installed" in said
    assert "cuBLAS workspace: not known: a product took none from the allocator" in said
    assert "no simulation will use it: memreq gpus has no card named 'NVIDIA H200 NVL'" in said


@pytest.mark.parametrize("name", ["CUBLAS_WORKSPACE_CONFIG", "CUBLASLT_WORKSPACE_SIZE"])
def test_a_workspace_that_a_variable_sets_is_not_the_cards(written, monkeypatch, name):
    monkeypatch.setenv(name, ":16:8")
    found, said = written(CudaCard())
    assert found.cublas_workspace_bytes is None
    assert f"cuBLAS workspace: not known: {name} is set" in said
