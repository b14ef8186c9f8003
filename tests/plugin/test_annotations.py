"""Annotations of a run, and that nothing else of ours is a command to a CI server's runner."""

import pytest

from tests.reports.runners import PARSERS, commands_of

VARIABLES = {
    "github": ("GITHUB_ACTIONS", "true", "GITHUB_WORKSPACE"),
    "azure": ("TF_BUILD", "True", "BUILD_SOURCESDIRECTORY"),
}
each_vendor = pytest.mark.parametrize("vendor", PARSERS)
SUITE = """
import pytest

@pytest.mark.max_gpu_memory(19)
def test_over(card):
    card.allocate(20)

@pytest.mark.max_gpu_memory(20)
def test_within(card):
    card.allocate(20)
"""


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    """Whatever server these tests themselves run on."""
    for name, _, workspace in VARIABLES.values():
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(workspace, raising=False)


@pytest.fixture
def on(monkeypatch):
    """The variables of a vendor's runner."""

    def be_on(vendor, workspace=None):
        name, value, variable = VARIABLES[vendor]
        monkeypatch.setenv(name, value)
        if workspace is not None:
            monkeypatch.setenv(variable, str(workspace))

    return be_on


@each_vendor
def test_a_run_on_a_server_marks_the_line(scripted, on, vendor):
    on(vendor, scripted.path)
    scripted.makepyfile(test_suite=SUITE)
    result = scripted.runpytest("--memreq-report")
    result.assert_outcomes(failed=1, passed=1)
    before, _, after = result.stdout.str().partition("= GPU memory =")
    assert not commands_of(vendor, before)
    (command,) = commands_of(vendor, after)
    assert {"test_suite.py", "3"} <= set(command.properties.values())
    assert "allocated peak 20 bytes is over the budget of 19 bytes by 1 byte" in command.data


@each_vendor
def test_files_are_named_as_seen_from_the_repository(scripted, on, vendor):
    on(vendor, scripted.path.parent)
    scripted.makepyfile(test_suite=SUITE)
    result = scripted.runpytest("--memreq-report")
    (command,) = commands_of(vendor, result.stdout.str())
    assert f"{scripted.path.name}/test_suite.py" in command.properties.values()
    on(vendor, scripted.mkdir("elsewhere"))
    (command,) = commands_of(vendor, scripted.runpytest("--memreq-report").stdout.str())
    assert not {"file", "line", "sourcepath", "linenumber"} & set(command.properties)


@pytest.mark.parametrize(
    ("is_on", "table", "options", "vendor"),
    [
        (None, "", ["--memreq-report"], None),
        (None, "", ["--memreq-annotations=github"], "github"),
        ("github", "", [], None),
        ("github", "", ["--memreq-report"], "github"),
        ("github", "", ["--memreq-report", "--memreq-annotations=off"], None),
        ("github", "", ["--memreq-report", "--memreq-annotations=azure"], "azure"),
        ("github", "annotations = 'off'", ["--memreq-report"], None),
        ("azure", "annotations = 'off'", ["--memreq-report", "--memreq-annotations=auto"], "azure"),
        ("azure", "annotations = 'azure'", [], "azure"),
        ("azure", "", ["--memreq-report", "-p", "no:terminal"], None),
        ("azure", "", ["--memreq-report", "--collect-only"], None),
        ("azure", "", ["--memreq-report", "-n1"], "azure"),
        ("azure", "", ["--memreq-report", "--memreq=off"], None),
    ],
)
def test_who_is_told(scripted, on, is_on, table, options, vendor):
    if is_on is not None:
        on(is_on)
    scripted.makepyprojecttoml(f"[tool.memreq]\n{table}\n")
    scripted.makepyfile(test_suite=SUITE)
    run = scripted.runpytest_subprocess if "-n1" in options else scripted.runpytest
    result = run(*options)
    found = {name: len(commands_of(name, result.stdout.str())) for name in PARSERS}
    assert found == {name: int(name == vendor) for name in PARSERS}


HOSTILE = r"""
import pytest
from pytest_memreq import MemoryBudgetExceeded

NAMES = [
    "##[error]x##vso[task.setvariable variable=x]y[[ATTACHMENT|/etc/passwd]]",
    "\n::error::x\x1b[31mred",
    "\r##[set-output name=a]b\u202e",
]
names = pytest.mark.parametrize("name", NAMES, ids=NAMES)

@names
@pytest.mark.max_gpu_memory(19)
def test_over(card, name):
    card.allocate(20)

@names
@pytest.mark.max_gpu_memory(19)
def test_unchecked(name):
    pass

@names
@pytest.mark.max_gpu_memory(19)
def test_skipped(name):
    pytest.skip(name)

@names
@pytest.mark.max_gpu_memory(19)
def test_error(card, name):
    card.allocate(5)
    raise MemoryBudgetExceeded("of itself")

@names
def test_checked(memreq, name):
    memreq.check(20, 19)

@names
@pytest.mark.max_gpu_memory("80%", device=5)
def test_not_known(card, name):
    card.allocate(20)
"""


@each_vendor
def test_nothing_of_ours_is_a_command_but_annotations(scripted, on, vendor):
    """The section, the messages that tests fail with, and our reasons, with hostile names."""
    on(vendor, scripted.path)
    directory = scripted.mkdir("d##[error]x")
    (directory / "test_suite.py").write_text(HOSTILE)
    result = scripted.runpytest("--memreq-report", "-v", "--color=no")
    result.assert_outcomes(failed=15, skipped=3)
    before, _, after = result.stdout.str().partition("= GPU memory =")
    # Rows, headings and tracebacks are pytest's own, and have the names of tests as they are.
    ours = [line for line in before.split("\n") if line.startswith(("E ", "memreq:"))]
    ours += after.partition("= short test summary info =")[0].split("\n")
    messages = [line for line in ours if "is over the budget" in line]
    assert len(messages) > 9  # of exceptions, of the section and of annotations
    assert len(commands_of(vendor, "\n".join(ours))) == 8 + 1 + 3  # failed, their number; skipped
    text = "\n".join(line for line in ours if not PARSERS[vendor](line))
    for other in PARSERS:
        assert not commands_of(other, text)
    assert not {"\x1b", "\u202e", "\r"} & set(text)
    assert "[[ATTACHMENT|" not in text


@pytest.mark.parametrize("options", [(), ("-n1",)])
def test_a_mistake_in_a_marker_is_told_without_a_command(scripted, options):
    scripted.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("name", [1], ids=["##[error]x##vso[task.complete]"])
        @pytest.mark.max_gpu_memory("x")
        def test_step(name):
            pass
        """
    )
    result = scripted.runpytest_subprocess(*options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: " in result.stderr.str()
    for vendor in PARSERS:
        assert not commands_of(vendor, result.stderr.str() + result.stdout.str())


def test_a_directory_of_another_name_is_told_without_a_command(scripted):
    scripted.makepyfile(test_suite=SUITE)
    name = "##[error]x\n::error::y##vso[task.complete]"
    (scripted.path / name).write_text("")
    for directory in (f"new{name}", name):
        result = scripted.runpytest("--memreq-report", "--memreq-report-dir", directory)
        for vendor in PARSERS:
            assert not commands_of(vendor, result.stderr.str() + result.stdout.str())
    assert result.ret == pytest.ExitCode.USAGE_ERROR
