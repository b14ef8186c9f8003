"""Settings and markers: precedence, and mistakes that end the run before any test."""

import json
import re
from dataclasses import fields
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from pytest_memreq.gate.tolerance import Tolerance
from pytest_memreq.plugin.config import OF_OPTIONS_ALONE, PARSERS, Settings, read_settings
from pytest_memreq.plugin.options import OPTIONS, option_name

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"

PLAIN = """
    import pytest

    @pytest.mark.max_gpu_memory({limit})
    def test_step(card):
        card.allocate(500)
"""


def test_every_option_and_key_has_a_field_a_parser_and_its_row_in_the_document():
    """An option without a field would be taken and heeded by nobody."""
    assert {field.name for field in fields(Settings)} == set(PARSERS) >= set(OPTIONS)
    rows = re.findall(
        r"^\| (?:`(--memreq[a-z-]*)[^`]*`)? ?\| (?:`(\w+)`)? ?\|",
        DOCUMENT.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert sorted(row for row in rows if any(row)) == sorted(
        (option_name(key) if key in OPTIONS else "", "" if key in OF_OPTIONS_ALONE else key)
        for key in PARSERS
    )


def only_test(pytester):
    report = json.loads((pytester.path / "memreq-report" / "memreq.json").read_text())
    (test,) = report["tests"]
    return test


@pytest.mark.parametrize(
    "limit",
    ['"5 MBps"', '"-1 GiB"', '"NaN GiB"', '"1,5 GiB"', '"120%"', '""', "True", "1.5", "-1", "[]"],
)
def test_a_bad_limit_ends_the_run_in_one_line(scripted, limit):
    scripted.makepyfile(PLAIN.format(limit=limit))
    result = scripted.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    errors = [line for line in result.stderr.lines if line.startswith("ERROR")]
    assert len(errors) == 1
    assert "::test_step: max_gpu_memory" in errors[0]
    assert "12 GiB" in errors[0] or "0%" in errors[0]
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("1, 2", "2 limits given"),
        ("1, allocated=2", "give it once"),
        ("1, alocated=2", "unknown 'alocated'; known are requested, allocated"),
        ("1, gpu=7", "gpu=7 is not a card's name"),
        ('1, gpu="Voodoo 2"', "no card named 'Voodoo 2'"),
    ],
)
def test_a_badly_written_marker_says_what_is_wrong(scripted, arguments, words):
    scripted.makepyfile(PLAIN.format(limit=arguments))
    result = scripted.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *::test_step: max_gpu_memory*{words}*"])


def test_a_bad_limit_ends_a_parallel_run_alike(scripted):
    scripted.makepyfile(PLAIN.format(limit='"5 MBps"'))
    result = scripted.runpytest_subprocess("-n2", "--memreq-report")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: *::test_step: max_gpu_memory, allocated: '5 MBps' is not*"]
    )
    assert "Traceback" not in result.stderr.str() + result.stdout.str()
    assert "INTERNALERROR" not in result.stdout.str()


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("budgt = '1 GiB'", "budgt: unknown key; known are mode, report"),
        ("budget = '1,5 GiB'", "budget, allocated: '1,5 GiB' is not a limit; write \"12 GiB\""),
        ("budget = 1.5", "budget: 1.5 is not a limit"),
        ("mode = 'guess'", "mode: 'guess' is not one of auto, measure, simulate, both, off"),
        ("report = 'yes'", "report: 'yes' is neither true nor false"),
        ("gpu = 'Voodoo 2'", "gpu: no card named 'Voodoo 2'"),
        ("report_dir = ''", "report_dir: '' is not a directory's name"),
        ("junit_family = 'xunit1'", "junit_family: 'xunit1' is not one of strict, extended"),
        ("budgets = 3", "budgets: 3 is not a table"),
        ("budgets = {'*' = '120%'}", "'120%' is not a share"),
        ("unchecked = 'pass'", "unchecked: 'pass' is not one of fail, skip"),
        ("budget = ", "cannot be read"),
        (f"budget = {'9' * 5000}", "cannot be read"),
        (f"budget = {'[' * 5000}", "cannot be read"),
        ("baseline = ''", "baseline: '' is not a file's name"),
        (
            "baseline_missing = 'pass'",
            "baseline_missing: 'pass' is not one of fail, record, ignore",
        ),
        ("update = 'all'", "update: is for the command line, --memreq-update"),
        ("update_in_ci = true", "update_in_ci: is for the command line, --memreq-update-in-ci"),
        ("tolerance = '5 MBps'", "tolerance: '5 MBps' is not a tolerance; write \"1 %, 2 MiB\""),
        ("tolerance = {percent = 'x'}", "tolerance: percent = 'x' is not a number; write {percent"),
        ("tolerances = 3", 'tolerances: 3 is not a table; write "tests/test_x.py::*" = {percent'),
        ("tolerances = {'*' = '200 %'}", "tolerances '*': '200 %' is not from 0 to 100 %"),
        ("tolerances = {'*' = {improved = 1}}", "'*': improved = 1 is not one of warn, fail"),
    ],
)
def test_a_bad_setting_ends_the_run_naming_file_key_and_form(scripted, table, words):
    scripted.makepyprojecttoml(f"[tool.memreq]\n{table}\n")
    scripted.makepyfile(PLAIN.format(limit=1000))
    result = scripted.runpytest("-c", "/dev/null", "--rootdir", str(scripted.path))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (error,) = [line for line in result.stderr.lines if line.startswith("ERROR")]
    assert "pyproject.toml: " in error
    assert words in error
    assert "Traceback" not in result.stderr.str()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--memreq-budget", "5 MBps"], "--memreq-budget, allocated: '5 MBps' is not a limit"),
        (["--memreq-gpu", "Voodoo 2"], "--memreq-gpu: no card named 'Voodoo 2'"),
        (["--memreq-report-dir", " "], "--memreq-report-dir: ' ' is not a directory's name"),
        (["--memreq", "guess"], "invalid choice: 'guess'"),
        (["--memreq-baseline", ""], "--memreq-baseline: '' is not a file's name"),
        (["--memreq-baseline-missing", "pass"], "invalid choice: 'pass'"),
        (["--memreq-update", "some"], "invalid choice: 'some'"),
        (["--memreq-junit-family", "legacy"], "invalid choice: 'legacy'"),
        (["--memreq-tolerance", "1,5 %"], "--memreq-tolerance: '1,5 %' is not a tolerance"),
    ],
)
def test_a_bad_option_ends_the_run(scripted, options, words):
    scripted.makepyfile(PLAIN.format(limit=1000))
    result = scripted.runpytest(*options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert words in result.stderr.str()


def test_a_flag_does_not_take_the_tests_for_its_value(scripted):
    scripted.makepyfile(test_a=PLAIN.format(limit=1000), test_b="def test_b(): pass")
    scripted.runpytest("--memreq-report", "test_a.py").assert_outcomes(passed=1)
    assert (scripted.path / "memreq-report").is_dir()


def test_option_over_marker_over_glob_over_default(scripted):
    scripted.makepyprojecttoml(
        """
        [tool.memreq]
        report = true
        budget = "100 B"
        report_dir = "from-file"

        [tool.memreq.budgets]
        "test_steps.py::test_of_glob*" = { allocated = "600 B" }
        "*" = 700
        """
    )
    scripted.makepyfile(
        test_steps="""
        import pytest

        @pytest.mark.max_gpu_memory(800)
        def test_of_marker(card):
            card.allocate(1)

        def test_of_glob(card):
            card.allocate(1)

        def test_of_second_glob(card):
            card.allocate(1)
        """,
        test_more="""
        import pytest

        @pytest.mark.max_gpu_memory()
        def test_of_second_glob_too(card):
            card.allocate(1)
        """,
    )
    scripted.runpytest("--memreq-report-dir", "from-option").assert_outcomes(passed=4)
    report = json.loads((scripted.path / "from-option" / "memreq.json").read_text())
    budgets = {
        test["nodeid"].rpartition("::")[2]: test["budget"]["allocated_bytes"]
        for test in report["tests"]
    }
    assert budgets == {
        "test_of_marker": 800,
        "test_of_glob": 600,
        "test_of_second_glob": 700,
        "test_of_second_glob_too": 700,
    }
    assert not (scripted.path / "from-file").exists()


def test_the_default_is_for_marked_tests_without_a_limit(scripted):
    scripted.makepyfile(PLAIN.format(limit="").replace("def test_step", "def test_step"))
    scripted.runpytest("--memreq-budget", "499 B").assert_outcomes(failed=1)
    scripted.runpytest("--memreq-budget", "500 B", "--memreq-report").assert_outcomes(passed=1)
    assert only_test(scripted)["budget"] == {"allocated_bytes": 500}


def test_settings_of_the_baseline(scripted):
    scripted.makepyprojecttoml(
        """
        [tool.memreq]
        baseline = "from-file.json"
        baseline_missing = "record"
        tolerance = "1 %, 2 MiB"

        [tool.memreq.tolerances]
        "test_a.py::*" = { percent = 0.3, improved = "fail" }
        """
    )
    config = scripted.parseconfig("--memreq-tolerance", "4 KiB", "--memreq-update", "new")
    settings = read_settings(config)
    assert settings.baseline == scripted.path / "from-file.json"
    assert settings.baseline_missing == "record"
    assert (settings.update, settings.update_in_ci) == ("new", False)
    assert settings.tolerance == Tolerance(percent=Decimal(0), bytes=4096)
    of_glob = Tolerance(percent=Decimal("0.3"), bytes=0, improved="fail")
    assert settings.tolerances == (("test_a.py::*", of_glob),)


@pytest.mark.parametrize(
    ("table", "options", "is_extended"),
    [
        ("", [], False),
        ('junit_family = "extended"', [], True),
        ('junit_family = "extended"', ["--memreq-junit-family=strict"], False),
        ("", ["--memreq-junit-family=extended"], True),
    ],
)
def test_the_junit_file_is_of_the_family_that_is_asked_for(scripted, table, options, is_extended):
    scripted.makepyprojecttoml(f"[tool.memreq]\n{table}\n")
    scripted.makepyfile(test_a=PLAIN.format(limit=1000))
    scripted.runpytest("--memreq-report", *options).assert_outcomes(passed=1)
    case = ET.parse(scripted.path / "memreq-report" / "memreq.xml").find("testsuite/testcase")
    assert (case.get("file"), case.get("line")) == (
        ("test_a.py", "3") if is_extended else (None,) * 2
    )
    assert (case.find("properties") is not None) == is_extended


def test_a_glob_with_brackets_names_a_parametrized_test(scripted):
    scripted.makepyprojecttoml('[tool.memreq.budgets]\n"test_a.py::test_step[1]" = 10\n')
    scripted.makepyfile(
        test_a="""
        import pytest

        @pytest.mark.parametrize("size", [1, 2])
        def test_step(card, size):
            card.allocate(11)
        """
    )
    scripted.runpytest().assert_outcomes(passed=1, failed=1)


def test_header_names_mode_settings_and_report(scripted):
    scripted.makepyprojecttoml('[tool.memreq]\ngpu = "h200"\n')
    result = scripted.runpytest("--memreq", "simulate", "--memreq-report")
    result.stdout.fnmatch_lines(
        ["memreq: simulated on *H200, settings in pyproject.toml, report in memreq-report, *"]
    )


def test_a_report_that_cannot_be_written_is_a_usage_error(scripted):
    scripted.makepyfile(PLAIN.format(limit=1000))
    (scripted.path / "memreq-report").write_text("a file")
    result = scripted.runpytest("--memreq-report")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --memreq-report: *memreq-report: cannot be written: *"])


def test_a_report_that_vanishes_under_way_fails_the_run_in_one_line(scripted):
    scripted.makepyfile(
        """
        import pathlib, shutil, pytest

        @pytest.mark.max_gpu_memory(1000)
        def test_step(card):
            card.allocate(1)
            shutil.rmtree("memreq-report")
            pathlib.Path("memreq-report").write_text("a file")
        """
    )
    result = scripted.runpytest("--memreq-report")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["memreq: *memreq-report: cannot be written: *"])


def test_a_run_under_way_is_reported_as_incomplete(scripted):
    scripted.makepyfile(
        """
        import json, pathlib, pytest

        @pytest.mark.max_gpu_memory(1000)
        def test_step(card):
            card.allocate(1)
            report = json.loads(pathlib.Path("memreq-report/memreq.json").read_text())
            assert report["status"] == "incomplete"
            assert "did not finish" in pathlib.Path("memreq-report/memreq.xml").read_text()
        """
    )
    scripted.runpytest("--memreq-report").assert_outcomes(passed=1)
    report = json.loads((scripted.path / "memreq-report" / "memreq.json").read_text())
    assert report["status"] == "complete"


def test_collecting_writes_nothing(scripted):
    scripted.makepyfile(PLAIN.format(limit=1000))
    result = scripted.runpytest("--collect-only", "--memreq-report")
    assert result.ret == pytest.ExitCode.OK
    assert not (scripted.path / "memreq-report").exists()


def test_no_summary_is_respected(scripted):
    scripted.makepyfile(PLAIN.format(limit=1))
    result = scripted.runpytest("--no-summary")
    result.assert_outcomes(failed=1)
    result.stdout.no_fnmatch_line("*GPU memory*")
