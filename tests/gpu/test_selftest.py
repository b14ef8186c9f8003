"""The self-test as it is shipped, on the device that is there."""

import json
import subprocess
import sys

import pytest
import torch

from pytest_memreq.simulate.calibration import from_text


def test_measuring_gives_the_same_figures_every_time(tmp_path):
    # Not while the module is imported: the plugin pretends a card to those that ask then.
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    output = tmp_path / "steady.json"
    calibration = tmp_path / "card.json"
    command = [sys.executable, "-m", "pytest_memreq", "validate", "--device", "--repeats", "9"]
    done = subprocess.run(
        [*command, "--output", str(output), "--calibration", str(calibration)],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(output.read_text(encoding="utf-8"))
    for workload in document["workloads"]:
        if workload["skipped"] is None:
            assert workload["peak"]["allocated_bytes"] > 0, workload["name"]
            judged = [workload["spread"][f"{m}_bytes"] for m in ("requested", "allocated")]
            assert judged == [0, 0], workload["name"]
            assert workload["spread"]["reserved_bytes"] == 0, workload["name"]
    own_peak = document["meter"]["own_peak"]
    assert [own_peak["allocated_bytes"], own_peak["reserved_bytes"]] == [0, 0]
    assert document["meter"]["after"] == document["meter"]["before"]
    assert document["simulation"]["not_simulated"] == []
    assert document["simulation"]["rows"]
    found = from_text(calibration.read_bytes(), "card.json")
    assert found.gpu == torch.cuda.get_device_name()
    assert found.torch == torch.__version__
