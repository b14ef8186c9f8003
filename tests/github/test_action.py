"""The action's own steps, run as a runner runs them: bash with the inputs in its environment."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from pytest_memreq.cli import main
from pytest_memreq.requirement import Peak
from pytest_memreq.results import Results, TestResult, to_json
from tests.github.files import ACTION, steps_of

STEPS = {step["name"]: step for step in steps_of(ACTION)}
INPUT = re.compile(r"\$\{\{ inputs\.([a-z-]+) \}\}")
HOSTILE = [
    *(
        "a b",
        '"',
        "'",
        "$(touch bad)",
        "`touch bad`",
        "${HOME}",
        "; touch bad",
        "*",
        "&& touch bad",
    ),
    *("-x", "@octocat", "::error::x", "${{ github.token }}", "%0A", "\\n", "ünï", "x" * 300, " "),
]
ECHO = """\
#!{python}
import json, os, sys
if sys.argv[1] == "-c":
    exec(sys.argv[2])
else:
    is_file = "@{{}}/memreq-arguments".format(os.environ["RUNNER_TEMP"]).__eq__
    given = [open(a[1:]).read().splitlines() if is_file(a) else a for a in sys.argv[1:]]
    json.dump(given, open({told!r}, "w"))
"""
SUITE = """
def test_a():
    print("::error::from a test")

def test_slow():
    import pathlib, time
    pathlib.Path("started").touch()
    time.sleep({seconds})
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start one step with these inputs; the others have their defaults."""
    (tmp_path / "temp").mkdir()

    def run(name, **inputs):
        step = STEPS[name]
        given = {key: each.get("default", "") for key, each in ACTION["inputs"].items()}
        given.update({key.replace("_", "-"): value for key, value in inputs.items()})
        told = {
            key: INPUT.sub(lambda match: given[match[1]], value)
            for key, value in step["env"].items()
        }
        script = tmp_path / "temp" / "step.sh"
        script.write_text(step["run"], encoding="utf-8")
        environment = {
            **{key: os.environ[key] for key in ("PATH", "HOME", "PYTHONPATH") if key in os.environ},
            "RUNNER_TEMP": str(tmp_path / "temp"),
            "GITHUB_OUTPUT": str(tmp_path / "output"),
            "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
            **told,
        }
        return subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", script],
            env=environment,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    return run


@pytest.fixture
def told(start, tmp_path):
    """What a step told the Python that it was given."""
    python, told = tmp_path / "echo python", tmp_path / "told.json"
    python.write_text(ECHO.format(python=sys.executable, told=str(told)))
    python.chmod(0o755)

    def run(name, **inputs):
        step = start(name, python=str(python), **inputs)
        out, _ = step.communicate(timeout=60)
        assert step.returncode == 0, out
        return json.loads(told.read_text())

    return run


@pytest.mark.parametrize("value", HOSTILE)
def test_inputs_stay_what_they_are(told, tmp_path, value):
    given = told("pytest", arguments=f"first\n\n{value}\n  \n-k\nx or y", report_directory=value)
    kept = [value] if value.strip() else []
    assert given == [
        *("-m", "pytest", "--memreq-report", f"--memreq-report-dir={value}"),
        ["first", *kept, "-k", "x or y"],
    ]
    assert told("summary and annotations", report_directory=value)[:4] == [
        *("-m", "pytest_memreq", "render", value)
    ]
    assert told("outputs", report_directory=value) == ["-m", "pytest_memreq", "outputs", value]
    assert not (tmp_path / "bad").exists()


def test_the_report_is_rendered_into_the_summary_with_annotations(told, tmp_path):
    assert told("summary and annotations")[2:] == [
        *("render", "memreq-report", "--summary", str(tmp_path / "summary")),
        *("--annotations", "github"),
    ]


def test_commands_are_stopped_before_pytest_says_anything(start, tmp_path):
    (tmp_path / "test_a.py").write_text(SUITE.format(seconds=0))
    words = set()
    for _ in range(2):
        step = start("pytest", python=sys.executable, arguments="-q\n-s")
        out, _ = step.communicate(timeout=60)
        assert step.returncode == 0, out
        first, *rest = out.splitlines()
        assert re.fullmatch("::stop-commands::[0-9a-f]{32}", first)
        assert "::error::from a test" in "\n".join(rest)
        words.add(first)
    assert len(words) == 2
    assert (tmp_path / "memreq-report" / "memreq.json").exists()


@pytest.mark.parametrize(("seconds", "code"), [(0, 0), (30, 130)])
def test_an_interrupt_reaches_pytest(start, tmp_path, seconds, code):
    (tmp_path / "test_a.py").write_text(SUITE.format(seconds=seconds))
    step = start("pytest", python=sys.executable, arguments="test_a.py")
    try:
        while seconds and not (tmp_path / "started").exists():
            assert step.poll() is None
            time.sleep(0.05)
        if seconds:
            os.kill(step.pid, signal.SIGINT)  # as a runner does: to this process alone
        out, _ = step.communicate(timeout=20)
    finally:
        step.kill()
    assert ("KeyboardInterrupt" in out) == bool(seconds)
    assert (step.returncode == 0) == (code == 0)


def test_a_run_that_takes_too_long_is_interrupted(start, tmp_path):
    (tmp_path / "test_a.py").write_text(SUITE.format(seconds=30))
    step = start("pytest", python=sys.executable, minutes="0.05")
    out, _ = step.communicate(timeout=25)
    assert step.returncode == 124
    assert "KeyboardInterrupt" in out
    raw = json.loads((tmp_path / "memreq-report/memreq.json").read_text())
    assert raw["status"] == "incomplete"


def test_minutes_that_are_none_are_refused(start):
    step = start("pytest", python=sys.executable, minutes="$(id)")
    out, _ = step.communicate(timeout=20)
    assert step.returncode == 125
    assert "invalid time interval" in out


@pytest.mark.parametrize(
    ("status", "outcome"), [("complete", "failed"), ("incomplete", "incomplete")]
)
def test_the_outputs_are_words_and_numbers(start, tmp_path, status, outcome):
    tests = [
        TestResult(nodeid="a\nb=c", mode="simulated", verdict="over", reason="\nx=y", peak=Peak()),
        TestResult(nodeid="b", mode="simulated", verdict="within", reason="", peak=Peak()),
    ]
    (tmp_path / "memreq-report").mkdir()
    (tmp_path / "memreq-report/memreq.json").write_text(
        to_json(Results(tests=tuple(tests), status=status))
    )
    step = start("outputs", python=sys.executable)
    out, _ = step.communicate(timeout=20)
    assert step.returncode == 0, out
    lines = (tmp_path / "output").read_text().splitlines()
    given = dict(line.split("=") for line in lines)
    assert given.keys() == ACTION["outputs"].keys()
    assert (given["outcome"], given["status"]) == (outcome, status)
    assert (given["over"], given["within"]) == ("1", "1")
    for name, output in ACTION["outputs"].items():
        assert output["value"] == f"${{{{ steps.outputs.outputs.{name} }}}}"


@pytest.mark.parametrize(
    ("verdict", "outcome", "status", "code"),
    [
        ("within", "passed", "complete", 0),
        ("over", "failed", "complete", 1),
        ("unchecked", "failed", "complete", 2),
        ("within", "passed", "incomplete", 2),
    ],
)
def test_the_publishing_step_is_as_red_as_the_report(
    start, tmp_path, verdict, outcome, status, code
):
    peak = Peak(allocated_bytes=2**30)
    test = TestResult(
        nodeid="t", mode="simulated", verdict=verdict, outcome=outcome, reason="r", peak=peak
    )
    (tmp_path / "memreq-report").mkdir()
    content = to_json(Results(tests=(test,), status=status))
    (tmp_path / "memreq-report/memreq.json").write_text(content)
    step = start("summary and annotations", python=sys.executable)
    out, _ = step.communicate(timeout=30)
    assert step.returncode == code, out
    assert "### GPU memory: " in (tmp_path / "summary").read_text()
    assert ("::error" in out) == (code != 0)


def test_without_a_report_there_are_no_outputs(tmp_path, capsys):
    assert main(["outputs", str(tmp_path)]) == 4
    assert "memreq.json: is not there" in capsys.readouterr().err


def test_all_but_pytest_always_run():
    first, *rest = STEPS.values()
    assert "if" not in first
    assert {step["if"] for step in rest} == {"${{ always() }}"}
    assert STEPS["report"]["with"]["if-no-files-found"] == "error"
