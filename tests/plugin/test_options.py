"""pytest's own options do what they do elsewhere: verdicts, exit status, files and output."""

import re

import pytest

from tests.plugin.citizen import OUTCOMES, VERDICTS
from tests.plugin.reports_of import results_of

OTHERS = [each for name in ("benchmark", "randomly") for each in ("-p", f"no:{name}")]
NINE = pytest.mark.skipif(pytest.version_tuple < (9,), reason="pytest 9 has it")


@pytest.mark.parametrize(
    "options",
    [
        ("-p", "no:cacheprovider"),
        ("-q",),
        ("-qq",),
        ("--no-summary",),
        ("--no-header",),
        ("--tb=no",),
        ("-s",),
        ("-v", "--setup-show"),
        ("-W", "error", "--strict-markers", "--strict-config"),
        pytest.param(("-o", "strict=true"), marks=NINE),
        ("--import-mode=importlib",),
        ("-p", "no:capture"),
        ("-p", "no:logging", "-p", "no:unittest", "-p", "no:doctest", "-p", "no:faulthandler"),
        ("--pdbcls=IPython.terminal.debugger:Pdb",),
        ("--doctest-modules",),
        ("--lf",),
        ("--ff",),
        ("--durations=3",),
        ("--capture=sys",),
        ("-p", "no:threadexception", "-p", "no:unraisableexception"),
        ("-p", "no:warnings"),
    ],
    ids=" ".join,
)
def test_an_option_changes_nothing_of_the_verdicts(runs, options):
    result = runs.here(*options)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert (runs.status, runs.verdicts) == ("complete", VERDICTS)
    if "-qq" not in options:
        result.assert_outcomes(**OUTCOMES)
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()


@pytest.mark.parametrize(
    ("options", "shown", "hidden"),
    [
        ((), [r"^memreq: measured", r"= GPU memory =", r"^over ", r"^within "], []),
        (("--no-header",), [r"= GPU memory ="], [r"^memreq: "]),
        (("-q",), [r"= GPU memory =", r"^over "], [r"^memreq: ", r"^within "]),
        (("-qq",), [r"= GPU memory =", r"^over "], [r"^memreq: ", r"^within "]),
        (("--no-summary",), [r"^memreq: measured"], [r"GPU memory", r"^over "]),
        (("--tb=no",), [r"= GPU memory ="], [r"^E  "]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_shown_is_what_was_asked_for(runs, options, shown, hidden):
    out = runs.here(*options).stdout.str()
    for pattern in shown:
        assert re.search(pattern, out, re.MULTILINE), pattern
    for pattern in hidden:
        assert not re.search(pattern, out, re.MULTILINE), pattern


@pytest.mark.parametrize(
    "options",
    [
        ("--co", "-q"),
        ("--collect-only",),
        ("--setup-plan",),
        ("--setup-only",),
        ("--fixtures",),
        ("--fixtures-per-test",),
        ("--cache-show",),
    ],
    ids=" ".join,
)
def test_a_run_of_no_test_writes_nothing_and_judges_nothing(runs, options):
    result = runs.here(*options)
    assert result.ret == pytest.ExitCode.OK
    assert not (runs.path / "memreq-report").exists()
    assert "GPU memory =" not in result.stdout.str()
    assert "report in" not in result.stdout.str()


def test_what_failed_is_run_again_and_first(runs):
    runs.here()
    runs.here("--lf").assert_outcomes(failed=1)
    assert runs.verdicts == {"test_over": VERDICTS["test_over"]}


@pytest.mark.parametrize("options", [("-x",), ("--maxfail=1",), ("--sw",)], ids=" ".join)
def test_a_run_that_stops_reports_what_ran(runs, options):
    result = runs.here(*options)
    assert result.ret in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED)
    assert {name: VERDICTS[name] for name in ("test_within", "test_over")} == runs.verdicts


@pytest.mark.parametrize("name", ["memreq", "pytest_memreq.plugin"])
def test_the_plugin_can_be_left_out(runs, monkeypatch, name):
    if name == "memreq":
        monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    (runs.path / "conftest.py").unlink()
    runs.pytester.makepyfile(test_suite="def test_plain():\n    pass\n")
    result = runs.pytester.runpytest("-p", f"no:{name}", *OTHERS)
    result.assert_outcomes(passed=1)
    assert "memreq:" not in result.stdout.str()


def test_without_a_terminal_failures_are_told_by_the_status(runs):
    result = runs.process("-p", "no:terminal")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert runs.verdicts == VERDICTS
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()


@pytest.mark.parametrize("options", [("-p", "no:terminal"), ("--no-summary",)], ids=" ".join)
def test_what_fails_a_run_by_itself_is_said_without_a_summary(runs, options):
    runs.write("@pytest.mark.skip\n@pytest.mark.max_gpu_memory(1000)\ndef test_step():\n    pass\n")
    result = runs.process(*options)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stderr.fnmatch_lines(["memreq: 1 test has a budget and none could be checked"])


def test_without_a_summary_the_baseline_is_written_and_not_shown(runs):
    runs.write("@pytest.mark.max_gpu_memory(1000)\ndef test_step(card):\n    card.allocate(1)\n")
    result = runs.here("--no-summary", "--memreq-update", "all", "--memreq-update-in-ci")
    assert (runs.path / "memreq-baseline.json").exists()
    assert "GPU memory" not in result.stdout.str()


def test_pytests_own_junit_file_is_as_without_us_but_for_the_failure(runs):
    runs.here("--junitxml=with.xml")
    runs.pytester.runpytest("-p", "pytest_memreq.plugin", "--memreq=off", "--junitxml=without.xml")

    def shape(name):
        text = (runs.path / name).read_text()
        text = re.sub(r' (time|timestamp|hostname|failures|skipped)="[^"]*"', "", text)
        return re.sub(r"<(failure|skipped).*?(</\1>|/>)", "", text, flags=re.DOTALL)

    def plain(name):
        return re.sub(r"(<testcase [^>]*?) ?(/>|></testcase>)", r"\1/>", shape(name))

    assert plain("with.xml") == plain("without.xml")
    assert "MemoryBudgetExceeded" in (runs.path / "with.xml").read_text()


STOPS = """
@pytest.mark.max_gpu_memory(1000)
def test_first(card):
    card.allocate(1)

@pytest.mark.max_gpu_memory(1000)
def test_stop(card):
    card.allocate(1)
    {how}

@pytest.mark.max_gpu_memory(1000)
def test_last(card):
    card.allocate(1)
"""


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ("raise KeyboardInterrupt", 2),
        ("pytest.exit('enough', 7)", 7),
        ("pytest.exit('enough', 0)", 0),
    ],
)
def test_a_run_that_is_broken_off_keeps_what_was_found_out(runs, how, status):
    runs.write(STOPS.format(how=how))
    result = runs.process()
    assert result.ret == status
    assert runs.verdicts["test_first"] == ("within", "passed")
    assert "test_last" not in runs.verdicts
    assert "Traceback" not in result.stderr.str()


@pytest.mark.parametrize("then", ["os._exit(0)", "sys.exit(0)", "os.kill(os.getpid(), 9)"])
def test_a_fork_has_no_say_in_the_report(runs, then):
    runs.write(
        f"""
import os, sys

@pytest.mark.max_gpu_memory(1000)
def test_forks(card):
    card.allocate(10)
    child = os.fork()
    if child == 0:
        {then}
    os.waitpid(child, 0)
    import json, pathlib
    status = json.loads(pathlib.Path("memreq-report/memreq.json").read_text())["status"]
    assert status == "incomplete"
"""
    )
    assert runs.process().ret == pytest.ExitCode.OK
    assert runs.verdicts == {"test_forks": ("within", "passed")}


def test_after_a_debugger_saw_a_failure_its_memory_is_let_go_of(runs):
    runs.write(
        """
class Tensor:
    def __del__(self):
        BACKEND.free(2000)

@pytest.mark.max_gpu_memory(1000)
def test_over():
    held = Tensor()
    BACKEND.allocate(2000)
    assert held is None

@pytest.mark.max_gpu_memory(1000)
def test_next(card):
    card.allocate(10)
"""
    )
    child = runs.pytester.spawn_pytest("-p pytest_memreq.plugin --memreq-report --pdb", 60)
    child.expect(r"\(Pdb\)")
    child.sendline("p 'held is', type(held).__name__")
    child.expect(r"'held is', 'Tensor'")
    child.sendline("c")
    child.expect("GPU memory")
    child.wait()
    assert runs.verdicts["test_next"] == ("within", "passed")
    assert results_of(runs.pytester)["test_next"]["held_bytes"] == 0
