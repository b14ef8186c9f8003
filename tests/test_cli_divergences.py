"""`memreq validate REPORT...`: what was simulated beside what was measured."""

import json

import pytest

from pytest_memreq.cli import main
from pytest_memreq.requirement import Peak
from pytest_memreq.results import Environment, Results, Simulated, TestResult, to_json

MIB = 2**20


def result_of(name, simulated_bytes, measured_bytes, **given):
    peak = Peak(allocated_bytes=measured_bytes, reserved_bytes=measured_bytes)
    said = Simulated(gpu="NVIDIA H200", peak=Peak(allocated_bytes=simulated_bytes), reason="")
    return TestResult(
        **{
            "nodeid": f"test_x.py::{name}",
            "mode": "measured",
            "verdict": "within",
            "reason": "",
            "peak": peak,
            "simulated": said,
            **given,
        }
    )


def written(tmp_path, *tests):
    environment = Environment(mode="measured", gpu="NVIDIA H100", torch="2.13.0")
    path = tmp_path / "memreq.json"
    path.write_text(to_json(Results(tests=tests, environment=environment)))
    return str(path)


def test_pairs_are_listed_and_add_up(tmp_path, capsys):
    path = written(
        tmp_path,
        result_of("same", 100 * MIB, 100 * MIB),
        result_of("close", 99 * MIB, 100 * MIB),
        result_of("far", 150 * MIB, 100 * MIB),
        result_of("broken", 1, 100 * MIB, verdict="error"),
        result_of("alone", 1, 100 * MIB, simulated=None),
    )
    assert main(["validate", path]) == 1
    shown = capsys.readouterr().out
    assert "broken" not in shown
    assert "alone" not in shown
    assert "+52,428,800 bytes (+50.00%) !" in shown
    assert shown.splitlines()[-1] == (
        "allocated: 3 tests, 1 equal to the byte, median difference 1.00%, largest 50.00%; "
        "1 further apart than 5 %, 2.00 MiB"
    )
    assert main(["validate", path, "--divergence", "50 %"]) == 0
    assert main(["validate", path, "--json"]) == 1


def test_json_has_every_pair(tmp_path, capsys):
    path = written(tmp_path, result_of("same", 5, 5))
    assert main(["validate", path, "--json"]) == 0
    (pair,) = json.loads(capsys.readouterr().out)
    assert (pair["metric"], pair["simulated_bytes"], pair["measured_bytes"]) == ("allocated", 5, 5)


@pytest.mark.parametrize("tests", [(), (result_of("alone", 1, 1, simulated=None),)])
def test_without_pairs_it_cannot_tell(tmp_path, capsys, tests):
    assert main(["validate", written(tmp_path, *tests)]) == 2
    assert "no test was both simulated and measured" in capsys.readouterr().out


def test_a_file_that_is_no_report_is_a_mistake(tmp_path, capsys):
    (tmp_path / "memreq.json").write_text("[]")
    assert main(["validate", str(tmp_path)]) == 4
    assert "memreq.json" in capsys.readouterr().err
    assert main(["validate", str(tmp_path), "--divergence", "far"]) == 4
