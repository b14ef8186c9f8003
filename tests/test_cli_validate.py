import argparse
import gc
import json
import subprocess
import sys

import pytest
import torch

from pytest_memreq.cli import main, own_process, validate
from pytest_memreq.errors import DeviceLostError
from pytest_memreq.measure.meter import DeviceMeter
from pytest_memreq.measure.selftest import Outcome, Workload, measure
from pytest_memreq.requirement import Peak
from tests.measure.test_selftest import ScriptedCard, takes, three


@pytest.fixture(autouse=True)
def quick_collections():
    """Only what a test makes is looked through; torch's objects take a quarter of a second."""
    gc.freeze()
    yield
    gc.unfreeze()


def asked(*options):
    parser = argparse.ArgumentParser()
    validate.add_to(parser)
    return parser.parse_args(["--device", *options])


def run(*options, residue_bytes=0, make_workloads=three):
    """The exit code, on a scripted card; alone is on a card of its own."""

    def alone(workload):
        card = ScriptedCard(residue_bytes)
        [same] = [w for w in make_workloads(card) if w.name == workload.name]
        return measure(DeviceMeter([card]), card.device(), same)

    card = ScriptedCard(residue_bytes)
    return validate.validate(
        [card], make_workloads(card), validate.Apart(measured=alone), asked(*options)
    )


def test_a_steady_card(capsys):
    assert run("--repeats", "5") == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith(f"Scripted card, 9.77 KiB, torch {torch.__version__}")
    assert "shuffled with seed 20" in lines[1]
    head = "Workload Peak allocated requested allocated reserved device Measured Differed"
    assert " ".join(lines[4].split()) == head
    assert " ".join(lines[5].split()) == "a 100 B 0 B 0 B ? ? 5 -"
    assert "of the device for the meter itself: requested 0 B, allocated 0 B, reserved ?" in lines
    assert lines[-1].startswith("steady: ")
    assert "round 4 of 4: " in err


def test_a_card_whose_peaks_depend_on_the_order(capsys):
    assert run("--repeats", "4", residue_bytes=8) == 1
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(lines[6].split()) == "b 1.96 KiB 8 B 8 B ? ? 4 alone 1 of 1"
    assert "b: allocated 2,000 B alone, else 2,008 B (-8 B)" in lines
    assert "more on the device after all of it: allocated 8 B, reserved ?" in lines
    assert lines[-1].startswith("not steady: ")


def test_the_document(capsys, tmp_path):
    output = tmp_path / "steady.json"
    assert run("--repeats", "3", "--json", "--output", str(output), residue_bytes=8) == 1
    document = json.loads(capsys.readouterr().out)
    assert json.loads(output.read_text(encoding="utf-8")) == document
    assert document["format"] == 1
    assert document["is_steady"] is False
    assert (document["gpu"], document["gpu_bytes"]) == ("Scripted card", 10_000)
    [a, b, _] = document["workloads"]
    assert b["spread"] == {
        "requested_bytes": 8,
        "allocated_bytes": 8,
        "reserved_bytes": None,
        "device_bytes": None,
    }
    assert [m["circumstance"] for m in b["measurements"]] == ["alone", "between", "first"]
    assert b["differences"][0] == {
        "metric": "requested",
        "circumstance": "alone",
        "after": None,
        "usual_bytes": 2_008,
        "bytes": 2_000,
    }
    assert a["time"]["step_seconds"] > 0
    assert document["meter"]["after"]["allocated_bytes"] == 8


def test_a_workload_that_fails_is_said_and_not_timed(capsys):
    def broken(card):
        return [takes(card, "broken", 5, error=RuntimeError("no kernel")), takes(card, "a", 1)]

    assert run("--repeats", "8", make_workloads=broken) == 1
    out, err = capsys.readouterr()
    assert "broken: failed alone: RuntimeError in run: no kernel" in out
    assert "broken: ... and 3 more" in out
    assert "a: timing" in err
    assert "broken: timing" not in err


def test_without_one_workload_that_can_run_it_cannot_be_told(capsys):
    def none(card):
        return [Workload(name="x", run=lambda _: 1 / 0, unusable=lambda _: "no such unit")]

    assert run(make_workloads=none) == 2
    out = capsys.readouterr().out
    assert "x: skipped: no such unit" in out
    assert out.endswith("cannot tell: no workload could run\n")


def test_a_device_that_is_lost(capsys):
    def loses(card):
        return [takes(card, "a", 5, error=DeviceLostError("CUDA context lost: illegal address"))]

    assert run(make_workloads=loses) == 2
    assert capsys.readouterr().err.endswith(
        "memreq: cannot tell: CUDA context lost: illegal address\n"
    )


def test_no_device():
    assert validate.validate([], [], validate.Apart(), asked()) == 2


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is a device")
def test_no_device_here(capsys):
    assert main(["validate", "--device"]) == 2
    assert capsys.readouterr().err == "memreq: cannot tell: no device to measure on\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "validate needs --device, or reports of runs with --memreq=both"),
        (["--device", "report"], "validate takes --device or reports, not both"),
        (["--device", "--divergence=1 MBps"], "--divergence: '1 MBps' is not a tolerance"),
        (["--calibration", "f"], "validate needs --device, or reports of runs with --memreq=both"),
        (["--device", "--calibration", "."], "--calibration .: is not a file in a directory"),
        (["--device", "--simulated", "x"], "no card named 'x' is known"),
        (["--device", "--repeats", "1"], "--repeats 1: it takes 2 or more to compare"),
        (["--device", "--repeats", "-3"], "--repeats -3: it takes 2 or more to compare"),
        (["--device", "--repeats", "x"], "argument --repeats: invalid int value: 'x'; see "),
        (["--device", "--output", "no/such/f"], "--output no/such/f: is not a file in a direc"),
        (["--device", "--output", "."], "--output .: is not a file in a directory"),
    ],
)
def test_usage(options, said, capsys):
    assert main(["validate", *options]) == 4
    err = capsys.readouterr().err
    assert err.startswith(f"memreq: {said}")
    assert err.count("\n") == 1


def test_one_alone_is_printed_and_read_back(capsys):
    card = ScriptedCard()
    assert validate.validate([card], three(card), validate.Apart(), asked("--alone", "b")) == 0
    out, err = capsys.readouterr()
    assert err == ""
    done = subprocess.CompletedProcess([], 0, stdout=f"a library's greeting\n{out}", stderr="")
    assert own_process.outcome_of(done) == Outcome(
        peak=Peak(requested_bytes=2_000, allocated_bytes=2_000)
    )


def test_a_process_that_dies_is_a_failure():
    code = "import os, sys; print('out of luck', file=sys.stderr, flush=True); os._exit(70)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert own_process.outcome_of(done) == Outcome(
        failure="its process ended with 70 and said: out of luck"
    )


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is a device")
def test_a_process_of_its_own_is_this_command():
    assert own_process.measured_alone(Workload(name="mlp-adamw", run=print)) == Outcome(
        failure="its process ended with 2 and said: memreq: cannot tell: no device to measure on"
    )
