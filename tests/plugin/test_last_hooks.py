"""Nothing of ours comes out of pytest's last hooks: a line, a status, and pytest's own summary."""

import os

import pytest

from tests.plugin.citizen import VERDICTS

DONE_BY_A_TEST = """
import builtins, json, os, pathlib, resource, shutil, time

@pytest.mark.max_gpu_memory(1000)
def test_within(card):
    card.allocate(10)

@pytest.mark.max_gpu_memory(1000)
def test_over(card):
    card.allocate(1001)

def test_mischief(monkeypatch):
    {mischief}
"""
TOLD = "memreq: *memreq-report*: cannot be written: *"


@pytest.mark.parametrize(
    ("mischief", "line"),
    [
        (
            "shutil.rmtree('memreq-report'); pathlib.Path('memreq-report').write_text('')",
            "memreq: *memreq-report: cannot be written: *",
        ),
        (
            "path = pathlib.Path('memreq-report/memreq.xml'); path.unlink(); path.symlink_to('/x')",
            "memreq: *memreq.xml: is a symbolic link*",
        ),
        (
            "path = pathlib.Path('memreq-report/memreq.md'); path.unlink(); path.mkdir()",
            "memreq: *memreq.md: cannot be written: it is not a file; memreq render *",
        ),
        (
            "resource.setrlimit(resource.RLIMIT_FSIZE, (8000, resource.RLIM_INFINITY))",
            "memreq: *index.html: cannot be written: File too large; *",
        ),
        (
            "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))",
            "memreq: *memreq.json: cannot be written: Too many open files; *",
        ),
        pytest.param(
            "pathlib.Path('memreq-report').chmod(0o500)",
            TOLD,
            marks=pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere"),
        ),
    ],
    ids=["file", "link", "directory", "full", "handles", "read-only"],
)
def test_what_a_test_did_to_the_report_is_told_in_a_line(runs, mischief, line):
    runs.write(DONE_BY_A_TEST.format(mischief=mischief))
    result = runs.process("-p", "no:cacheprovider", "--capture=sys")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    out = result.stdout.str()
    result.stdout.fnmatch_lines([line])
    result.stdout.fnmatch_lines(["*= FAILURES =*", "*= GPU memory =*", "*1 failed, 2 passed*"])
    assert len([each for each in result.outlines if each.startswith("memreq: /")]) == 1
    assert "Traceback" not in out + result.stderr.str()
    assert "INTERNALERROR" not in out


@pytest.mark.parametrize(
    "mischief",
    [
        "shutil.rmtree('memreq-report')",
        "os.mkdir('elsewhere'); os.chdir('elsewhere')",
        "monkeypatch.setattr(builtins, 'open', None)",
        "monkeypatch.setattr(json, 'dumps', None)",
        "monkeypatch.setattr(time, 'time', lambda: 0)",
        "monkeypatch.setattr(os, 'replace', None)",
        "monkeypatch.setattr(os, 'getcwd', None)",
    ],
)
def test_what_does_not_matter_by_the_end_changes_nothing(runs, mischief):
    runs.write(DONE_BY_A_TEST.format(mischief=mischief))
    runs.here().assert_outcomes(passed=2, failed=1)
    assert runs.status == "complete"
    assert runs.verdicts == {name: VERDICTS[name] for name in ("test_within", "test_over")}


@pytest.mark.parametrize(
    "replaced", ["builtins.open", "json.dumps", "json.loads", "time.time", "time.monotonic"]
)
def test_what_a_checked_test_replaces_for_itself_is_not_in_our_way(runs, replaced):
    runs.write(
        f"""
@pytest.mark.max_gpu_memory(1000)
def test_over(card, monkeypatch):
    monkeypatch.setattr("{replaced}", None)
    card.allocate(1001)
"""
    )
    runs.here()
    assert runs.verdicts == {"test_over": ("over", "failed")}


BROKEN = """
import pytest_memreq.{module} as broken

def pytest_configure(config):
    def raising(*_, **__):
        raise ValueError("of ours\\n::error::x")
    {how}
"""


@pytest.mark.parametrize(
    ("module", "how", "line"),
    [
        (
            "reports.files",
            'broken.REPORTS = {**broken.REPORTS, "memreq.md": raising}',
            "memreq: */memreq-report/memreq.md: ValueError: of ours at *.py:*: this is a bug of *",
        ),
        (
            "reports.terminal",
            "broken.render = raising",
            "memreq: the section on GPU memory: ValueError: of ours at *: this is a bug of memreq*",
        ),
        (
            "plugin.recording",
            "broken.entries_of = raising",
            "memreq: */memreq-baseline.json: ValueError: of ours at *: this is a bug of memreq*",
        ),
    ],
    ids=["file", "section", "baseline"],
)
def test_a_mistake_of_ours_is_said_to_be_one(runs, module, how, line):
    conftest = runs.path / "conftest.py"
    conftest.write_text(conftest.read_text() + BROKEN.format(module=module, how=how))
    runs.write("@pytest.mark.max_gpu_memory(1000)\ndef test_within(card):\n    card.allocate(1)\n")
    result = runs.process("--memreq-update", "all", "--memreq-update-in-ci")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    said = [each for each in (*result.outlines, *result.errlines) if "ValueError" in each]
    assert len(said) == 1
    (result.stdout if said[0] in result.outlines else result.stderr).fnmatch_lines([line])
    result.stdout.fnmatch_lines(["*= 1 passed*"])
    assert runs.verdicts == {"test_within": ("within", "passed")}


@pytest.mark.parametrize("hook", ["sessionfinish", "terminal_summary", "unconfigure"])
def test_what_others_raise_there_is_theirs(runs, hook):
    conftest = runs.path / "conftest.py"
    conftest.write_text(
        conftest.read_text() + f"\ndef pytest_{hook}():\n    raise ValueError('of others')\n"
    )
    result = runs.process()
    assert result.ret != pytest.ExitCode.OK
    assert "ValueError: of others" in result.stdout.str() + result.stderr.str()
    assert "test_over" in runs.verdicts


CLOSED = """
import os, pytest

class Closing:
    @pytest.hookimpl(tryfirst=True)
    def pytest_terminal_summary(self):
        read, write = os.pipe()
        os.close(read)
        os.dup2(write, 1)

def pytest_configure(config):
    config.pluginmanager.register(Closing())
"""


def test_an_output_that_nobody_reads_any_more_is_no_mistake_of_ours(runs):
    """As with `pytest | head`, from our section on."""
    (runs.path / "closing.py").write_text(CLOSED)
    result = runs.process("-p", "closing", "--capture=sys")
    result.stderr.fnmatch_lines(
        ["memreq: the section on GPU memory: could not be shown: whoever *"]
    )
    assert result.ret != pytest.ExitCode.OK
