"""A run beside its baseline: verdicts, what is written, and what never is."""

import json

import pytest

from tests.plugin.reports_of import results_of

SUITE = """
import pytest

@pytest.mark.max_gpu_memory()
def test_first(card):
    card.allocate({first})

@pytest.mark.max_gpu_memory(9000)
def test_second(card):
    card.allocate(200)
"""
FILE = "memreq-baseline.json"
NEW = "--memreq-update=new"


@pytest.fixture
def suite(scripted, monkeypatch):
    """A scripted device of no tolerance, and a baseline of 1000 and 200 bytes."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("RANK", raising=False)
    scripted.makepyprojecttoml("[tool.memreq]\ntolerance = 0")
    write(scripted, 1000)
    scripted.runpytest(NEW).assert_outcomes(passed=2)
    return scripted


def write(pytester, first=1000, more=""):
    pytester.makepyfile(test_suite=SUITE.format(first=first) + more)


def entries(pytester):
    *found, end = json.loads((pytester.path / FILE).read_text())["entries"]
    assert end == "end"
    return {e["nodeid"].rpartition("::")[2]: e["peak"]["allocated_bytes"] for e in found}


def run(pytester, *options):
    return pytester.runpytest("--memreq-report", *options)


def test_without_a_file_nothing_is_compared(scripted):
    write(scripted)
    run(scripted).assert_outcomes(passed=2)
    assert results_of(scripted)["test_first"]["baseline"] is None
    assert not (scripted.path / FILE).exists()


def test_the_first_update_makes_the_file_and_tells_it(suite):
    assert entries(suite) == {"test_first": 1000, "test_second": 200}
    (suite.path / FILE).unlink()
    result = run(suite, NEW)
    result.stdout.fnmatch_lines(
        ["*GPU memory baseline*", "| *test_first`  | allocated * new *|", "baseline: 2 new"]
    )


def test_what_is_as_before_is_within_and_shows_what_it_was_held_against(suite):
    result = run(suite)
    result.assert_outcomes(passed=2)
    test = results_of(suite)["test_first"]
    assert (test["verdict"], test["reason"]) == ("within", "as in the baseline")
    assert test["baseline"]["verdict"] == "within"
    assert test["baseline"]["peak"]["allocated_bytes"] == 1000
    assert test["baseline"]["device"]["mode"] == "measured"
    assert test["baseline"]["tolerance"] == "0 %, 0 B"
    result.stdout.fnmatch_lines(["within *1000 B was *1000 B*test_first"])


def test_a_byte_more_fails_where_nothing_is_tolerated(suite):
    write(suite, 1001)
    result = run(suite)
    result.assert_outcomes(passed=1, failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "E *MemoryRegressed: *test_first: *+1 bytes (+0.10%) against 1,000 bytes*",
            "1 within, 1 regressed",
        ]
    )
    assert results_of(suite)["test_first"]["verdict"] == "regressed"
    assert entries(suite)["test_first"] == 1000


def test_what_is_measured_may_move_by_one_per_cent_and_two_mib(suite):
    suite.makepyprojecttoml("[tool.memreq]")
    write(suite, 9000)
    run(suite).assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("table", "first", "failed"),
    [
        ('tolerance = "10 %"', 1100, 0),
        ('tolerance = "10 %"', 1101, 1),
        ('tolerance = "10 %, 200 B"', 1200, 0),
        ('tolerance = 0\n[tool.memreq.tolerances]\n"*::test_first" = "50 %"', 1400, 0),
        ('tolerance = "50 %"\n[tool.memreq.tolerances]\n"*::test_first" = 0', 1001, 1),
    ],
)
def test_the_tolerance_is_that_of_the_settings(suite, table, first, failed):
    suite.makepyprojecttoml(f"[tool.memreq]\n{table}")
    write(suite, first)
    run(suite).assert_outcomes(passed=2 - failed, failed=failed)


def test_the_tolerance_of_a_marker_wins(suite):
    write(suite, 1200)
    path = suite.path / "test_suite.py"
    path.write_text(path.read_text().replace("memory()", 'memory(tolerance="20%")'))
    run(suite).assert_outcomes(passed=2)
    path.write_text(path.read_text().replace('"20%"', '"twenty"'))
    result = run(suite)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*test_first: max_gpu_memory, tolerance: 'twenty' is not a*"])


def test_needing_less_passes_and_says_how_to_keep_it_or_fails(suite):
    write(suite, 900)
    result = suite.runpytest()
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["improved*900 B was*", "*--memreq-update failing takes the gain*"])
    suite.makepyprojecttoml('[tool.memreq.tolerances]\n"*" = {bytes = 0, improved = "fail"}')
    result = run(suite)
    result.assert_outcomes(passed=1, failed=1)
    assert results_of(suite)["test_first"]["verdict"] == "improved"


def test_a_budget_holds_as_well(suite):
    write(suite, 1001)
    path = suite.path / "test_suite.py"
    path.write_text(path.read_text().replace("memory()", "memory(500)"))
    run(suite).assert_outcomes(passed=1, failed=1)
    test = results_of(suite)["test_first"]
    assert test["verdict"] == "over"
    assert "over the budget of 500 bytes" in test["reason"]
    assert "+1 bytes" in test["reason"]


OTHER = """
@pytest.mark.max_gpu_memory()
def test_third(card):
    card.allocate(3)
"""


@pytest.mark.parametrize(
    ("options", "variables", "outcome", "written"),
    [
        ((), {}, "failed", False),
        (("--memreq-unchecked=skip",), {}, "failed", False),
        (("--memreq-baseline-missing=ignore",), {}, "passed", False),
        (("--memreq-baseline-missing=record",), {}, "passed", True),
        (("--memreq-baseline-missing=record",), {"CI": "true"}, "failed", False),
        (("--memreq-baseline-missing=record",), {"RANK": "1"}, "passed", False),
        ((NEW,), {}, "passed", True),
        ((NEW, "--memreq-update-in-ci"), {"CI": "true"}, "passed", True),
    ],
)
def test_a_test_that_the_baseline_does_not_have(
    suite, monkeypatch, options, variables, outcome, written
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    write(suite, more=OTHER)
    run(suite, *options).assert_outcomes(**{"passed": 2, outcome: 3 if outcome == "passed" else 1})
    assert ("test_third" in entries(suite)) is written


@pytest.mark.parametrize(("which", "first"), [("new", 1000), ("failing", 1500), ("all", 1500)])
def test_an_update_writes_what_it_was_asked_to(suite, which, first):
    write(suite, 1500, OTHER)
    result = run(suite, f"--memreq-update={which}")
    result.assert_outcomes(passed=3 - (which == "new"), failed=which == "new")
    assert entries(suite) == {"test_first": first, "test_second": 200, "test_third": 3}
    if which != "new":
        assert "now recorded" in results_of(suite)["test_first"]["reason"]


def test_what_did_not_come_through_is_not_written_and_named(suite):
    more = """
@pytest.mark.max_gpu_memory(5)
def test_over(card):
    card.allocate(6)

@pytest.mark.max_gpu_memory()
def test_fails(card):
    card.allocate(7)
    assert 0
"""
    write(suite, more=more)
    result = run(suite, "--memreq-update=all")
    assert set(entries(suite)) == {"test_first", "test_second"}
    result.stdout.fnmatch_lines(["not written: *test_fails: error:*", "not written: *test_over: *"])


def test_workers_write_the_same_file(suite):
    write(suite, 1500, OTHER)
    suite.runpytest_subprocess("--memreq-update=all")
    alone = (suite.path / FILE).read_bytes()
    (suite.path / FILE).unlink()
    suite.runpytest_subprocess("--memreq-update=all", "-n2")
    assert (suite.path / FILE).read_bytes() == alone
    write(suite, 1600, OTHER)
    suite.runpytest_subprocess("-n2").assert_outcomes(passed=2, failed=1)


def test_on_a_ci_server_nothing_is_written(suite, monkeypatch):
    monkeypatch.setenv("CI", "true")
    before = (suite.path / FILE).read_bytes()
    result = run(suite, "--memreq-update=all")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--memreq-update is refused where CI is set*"])
    assert (suite.path / FILE).read_bytes() == before


@pytest.mark.parametrize(
    ("options", "is_gone"),
    [
        ((), True),
        (("-k", "first"), True),
        (("test_suite.py",), True),
        (("test_suite.py::test_first",), False),
        (("test_other.py",), False),
        (("--lf",), False),
    ],
)
def test_entries_of_tests_that_are_gone(suite, options, is_gone):
    suite.makepyfile(
        test_other="""
        import pytest

        @pytest.mark.max_gpu_memory()
        def test_other(card):
            card.allocate(4)
        """
    )
    suite.runpytest(NEW)
    path = suite.path / "test_suite.py"
    path.write_text(path.read_text().replace("test_second", "test_renamed"))
    suite.runpytest("test_suite.py::test_renamed")  # fails: it is not in the baseline
    told = "tests that are in the baseline and gone: test_suite.py::test_second; *takes them out"
    result = suite.runpytest(*options)
    (result.stdout.fnmatch_lines([told]) if is_gone else result.stdout.no_fnmatch_line(told))
    assert "test_second" in entries(suite)
    suite.runpytest(NEW, *options)
    assert ("test_second" in entries(suite)) is not is_gone
    assert {"test_first", "test_other"} <= set(entries(suite))


def test_entries_of_a_file_that_is_gone(suite):
    (suite.path / "test_suite.py").rename(suite.path / "test_moved.py")
    result = suite.runpytest(NEW)
    result.stdout.fnmatch_lines(["baseline: 2 new, 2 gone"])


def test_a_file_that_cannot_be_read_ends_the_run_before_any_test(suite):
    (suite.path / FILE).write_text("<<<<<<< HEAD\n{}")
    result = run(suite)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{FILE}: line 1: has the marks of a git conflict*"])
    (suite.path / FILE).unlink()
    assert run(suite, f"--memreq-baseline={FILE}").ret == pytest.ExitCode.USAGE_ERROR
    result = run(suite, "--memreq-baseline=missing.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*missing.json: is not there; --memreq-update new makes it"])


def test_nothing_is_written_through_a_link(suite):
    real = suite.path / "real.json"
    (suite.path / FILE).rename(real)
    (suite.path / FILE).symlink_to(real)
    before = real.read_bytes()
    write(suite, more=OTHER)
    result = run(suite, NEW)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*is a symbolic link; remove it*"])
    assert real.read_bytes() == before


def test_a_run_that_is_broken_off_leaves_the_file_as_it_was(suite):
    before = (suite.path / FILE).read_bytes()
    write(suite, 1500, "\ndef test_stop():\n    raise KeyboardInterrupt\n")
    result = suite.runpytest_subprocess("--memreq-update=all")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["the run did not finish: the baseline is as it was"])
    assert (suite.path / FILE).read_bytes() == before


def test_a_test_that_allocates_nothing_any_more_is_not_passed_over(suite):
    suite.makepyprojecttoml("[tool.memreq]\nall = true")
    suite.makepyfile(test_suite="def test_first(): pass\ndef test_on_the_cpu(): pass")
    result = run(suite)
    result.assert_outcomes(passed=1, failed=1)
    assert results_of(suite)["test_first"]["reason"].startswith(
        "nothing was allocated on the device; move"
    )
    run(suite, "--memreq-unchecked=skip").assert_outcomes(passed=1, failed=1)


def test_an_isolated_test_is_compared_and_written_once(suite):
    write(suite)
    path = suite.path / "test_suite.py"
    path.write_text(path.read_text().replace("memory()", "memory(isolate=True)"))
    suite.runpytest_subprocess().assert_outcomes(passed=2)
    path.write_text(path.read_text().replace("1000", "1002"))
    result = suite.runpytest_subprocess("--memreq-update=failing")
    result.assert_outcomes(passed=2)
    assert entries(suite) == {"test_first": 1002, "test_second": 200}


MODEL = """
import pytest
import torch
from torch import nn

@pytest.mark.max_gpu_memory()
def test_step():
    model = nn.Sequential(*[nn.Linear(1024, 1024) for _ in range(LAYERS)]).cuda()
    model(torch.randn(4096, 1024, device="cuda"))
"""


def test_a_simulated_test_that_regressed_says_what_grew_and_why(pytester, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    pytester.makepyfile(test_suite=MODEL.replace("LAYERS", "4"))
    pytester.runpytest(NEW).assert_outcomes(passed=1)
    pytester.makepyfile(test_suite=MODEL.replace("LAYERS", "5"))
    result = pytester.runpytest("--memreq-report")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E *MemoryRegressed: *test_step: *",
            "    what grew:",
            "      +20.00 MiB against the baseline: temporaries +16.00 MiB, parameters +4.00 MiB",
            "      +20.00 MiB in 4 (5 of them instead of 4), not in the baseline: *test_suite.py:8",
            "    hint (no_grad): * while autograd recorded 10 operations, and nothing called*",
        ]
    )
    test = results_of(pytester)["test_step"]
    assert test["grew"][0].startswith("+20.00 MiB against the baseline")
    assert [hint["word"] for hint in test["hints"]] == ["no_grad"]
    with_no_grad = MODEL.replace("LAYERS", "5").replace(
        "    model(", "    with torch.no_grad(): model("
    )
    pytester.makepyfile(test_suite=with_no_grad)
    result = pytester.runpytest("--memreq-report")
    result.assert_outcomes(passed=1)
    assert results_of(pytester)["test_step"]["verdict"] == "improved"
    assert results_of(pytester)["test_step"]["hints"] == []


@pytest.mark.parametrize("end", ["assert 0", 'pytest.skip("no data")'])
def test_a_test_with_a_subtest_that_was_cut_short_is_not_written(suite, end):
    path = suite.path / "test_suite.py"
    cut = f"""
import pytest

@pytest.mark.max_gpu_memory()
def test_first(card, subtests):
    card.allocate(100)
    with subtests.test("part"):
        {end}
        card.allocate(900)
"""
    path.write_text(cut)
    run(suite, "--memreq-update=all", "-k", "first")
    assert entries(suite)["test_first"] == 1000
    assert results_of(suite)["test_first"]["verdict"] == "error"


def test_a_test_that_lost_its_marker_is_not_passed_over(suite):
    path = suite.path / "test_suite.py"
    path.write_text(path.read_text().replace("@pytest.mark.max_gpu_memory()", ""))
    result = run(suite)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*not checked any more: test_suite.py::test_first; mark them*"])
    run(suite, NEW)
    assert entries(suite) == {"test_first": 1000, "test_second": 200}
    assert run(suite, "--memreq-baseline-missing=ignore").ret == pytest.ExitCode.OK


def test_what_others_deselect_first_is_not_gone(suite):
    suite.makepyfile(
        few="""
        import pytest

        @pytest.hookimpl(wrapper=True, tryfirst=True)
        def pytest_collection_modifyitems(items):
            items[:] = items[:1]
            return (yield)
        """
    )
    suite.runpytest_subprocess("-p", "few", NEW).assert_outcomes(passed=1)
    assert entries(suite) == {"test_first": 1000, "test_second": 200}


def test_the_tests_of_another_project_are_not_gone(suite):
    other = suite.mkdir("other")
    (other / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\n[tool.memreq]\nbaseline = "../memreq-baseline.json"'
    )
    source = (suite.path / "test_suite.py").read_text().replace("test_first", "test_other")
    (other / "test_other.py").write_text(source)
    suite.runpytest_subprocess(NEW, "--rootdir=other", "-c", "other/pyproject.toml", "other")
    assert {"test_first", "test_second"} <= set(entries(suite))
