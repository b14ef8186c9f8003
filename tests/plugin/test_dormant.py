"""A run that nothing was said to us about sleeps, and misses nothing for it."""

import pytest

from tests.plugin.citizen import WITHOUT_TORCH
from tests.plugin.conftest import SCRIPTED

STATE = """
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session):
    is_awake = session.config.pluginmanager.hasplugin("memreq-session")
    is_asleep = session.config.pluginmanager.hasplugin("memreq-dormant")
    print("awake" if is_awake else "asleep" if is_asleep else "neither")
    return (yield)
"""
NOTHING = "def test_step(card):\n    card.allocate(20)\n"
MARKED = "import pytest\n\n@pytest.mark.max_gpu_memory(10)\n" + NOTHING
LIMIT = "import pytest\n\nlimited = pytest.mark.max_gpu_memory(10)\n"
FROM_HELPER = f"from helper import limited\n\n@limited\n{NOTHING}"
MODULE_WIDE = f"from helper import limited\n\npytestmark = limited\n\n{NOTHING}"
IN_A_CLASS = """
from helper import limited

@limited
class TestOf:
    def test_step(self, card):
        card.allocate(20)
"""
BY_CONFTEST = """
def pytest_collection_modifyitems(items):
    for item in items:
        item.add_marker(pytest.mark.max_gpu_memory(10))
"""
BY_CONFTEST_FIRST = BY_CONFTEST.replace("\ndef", "\n@pytest.hookimpl(tryfirst=True)\ndef")
BY_CONFTEST_LAST = BY_CONFTEST.replace("\ndef", "\n@pytest.hookimpl(wrapper=True)\ndef").replace(
    "(items):\n", "(items):\n    yield\n"
)
THROUGH_A_FIXTURE = """
@pytest.fixture
def watched(memreq):
    with memreq.measure("all") as span:
        yield
    memreq.check(span.peak, 10)
"""
# What conftest.py has besides the device, and the module of tests.
ASKED = {
    "a marker": ("", MARKED),
    "a marker from elsewhere": ("", FROM_HELPER),
    "a module's": ("", MODULE_WIDE),
    "a class's": ("", IN_A_CLASS),
    "conftest.py marks": (BY_CONFTEST, NOTHING),
    "conftest.py marks first": (BY_CONFTEST_FIRST, NOTHING),
    "conftest.py marks last": (BY_CONFTEST_LAST, NOTHING),
    "a fixture asks": (THROUGH_A_FIXTURE, NOTHING.replace("(card)", "(watched, card)")),
}
TABLE = "[tool.memreq]\nbudget = '10'\nall = true\n"
BASELINE = '{"format": 1,\n"entries": [\n"end"]}\n'
TORCH = {
    "torch/__init__.py": "from torch import cuda\n",
    "torch/cuda.py": "is_initialized = lambda: True\ndevice_count = lambda: 1\n",
    "torch/version.py": "hip = None\n",
}


@pytest.fixture
def project(pytester, monkeypatch):
    """A directory with the device, for runs with no plugin but ours."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS")
    pytester.makeini("[pytest]\n")
    return pytester


def run(project, conftest, *options, **modules):
    """A process of its own: this one may have torch."""
    project.makeconftest(WITHOUT_TORCH + SCRIPTED.read_text() + STATE + conftest)
    project.makepyfile(helper=LIMIT, **modules)
    return project.runpytest_subprocess("-p", "pytest_memreq.plugin", "-s", *options, timeout=60)


@pytest.mark.parametrize("how", ASKED)
def test_a_budget_is_held_however_it_is_asked_for(project, how):
    conftest, source = ASKED[how]
    result = run(project, conftest, test_it=source)
    # It fails as in a run that was awake from the start.
    awake = run(project, conftest, "--memreq=measure", test_it=source)
    assert result.ret == awake.ret == pytest.ExitCode.TESTS_FAILED
    assert result.parseoutcomes() == awake.parseoutcomes()
    assert "MemoryBudgetExceeded" in result.stdout.str()
    assert result.stdout.str().count("awake") == 1
    said = [[line for line in r.outlines if "GPU memory" in line] for r in (result, awake)]
    assert said[0] == said[1]


def test_nothing_asked_is_nothing_loaded(project):
    print_loaded = (
        "def pytest_sessionfinish():\n    import sys\n"
        "    print('loaded:', *sorted(n for n in sys.modules if n.startswith('pytest_memreq.')))\n"
    )
    project.makepyfile(test_it="def test_step():\n    pass\n")
    project.makeconftest("import pytest\n" + STATE + print_loaded)
    result = project.runpytest_subprocess("-p", "pytest_memreq.plugin", "-s")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["memreq: measured on a device if there is one,*, no baseline"])
    result.stdout.fnmatch_lines(["asleep"])
    (said,) = [line for line in result.outlines if "loaded:" in line]
    loaded = said.partition("loaded:")[2].split()
    assert {name.split(".")[1] for name in loaded} == {
        *("choices", "errors", "estimate", "plugin", "resolving", "simulate")
    }
    assert "pytest_memreq.plugin.session" not in loaded


@pytest.mark.parametrize(
    ("files", "options", "state"),
    [
        ({}, (), "asleep"),
        ({"pyproject.toml": "[project]\ndependencies = ['pytest-memreq']\n"}, (), "asleep"),
        ({"pyproject.toml": "[tool.other]\npath = 'C:\\\\Users'\n"}, (), "asleep"),
        ({"pyproject.toml": "[tool.memreq]\nmode = 'measure'\n"}, (), "awake"),
        ({"pyproject.toml": '[tool."mem\\u0072eq"]\nmode = "measure"\n'}, (), "awake"),
        ({"memreq-baseline.json": BASELINE}, (), "awake"),
        ({}, ("--memreq-report",), "awake"),
        ({}, ("--memreq=off",), "neither"),
        ({}, ("-p", "xdist", "-n1"), "awake"),
    ],
    ids=repr,
)
def test_whoever_is_spoken_to_is_awake(project, files, options, state):
    for name, text in files.items():
        (project.path / name).write_text(text)
    result = run(project, "", *options, test_it=NOTHING)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([state])


def test_a_wrong_variable_of_ours_is_said(project, monkeypatch):
    monkeypatch.setenv("PYTEST_MEMREQ_ISOLATED", "{")
    result = run(project, "", test_it=NOTHING)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: PYTEST_MEMREQ_ISOLATED*"])


def test_a_settings_file_that_cannot_be_read_is_said(project):
    (project.path / "pyproject.toml").write_text("[tool.memreq]\nmode = measure\n")
    result = run(project, "", test_it=NOTHING)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *pyproject.toml*"])


ALLOCATES = "from conftest import BACKEND\nBACKEND.allocate({})\n"
IMPORTED = {
    "deeper.py": "{deeper}" + ALLOCATES.format(300),
    "below/__init__.py": "",
    "below/conftest.py": "{conftest}",  # which pytest loads late
}
COLLECTED = {
    "unmarked": "{unmarked}import deeper\n"
    + ALLOCATES.format(4000)
    + "def test_unmarked():\n    pass\n",
    "b": "import torch\n" + MARKED + ALLOCATES.format(700),
    "c": MARKED,
}
NEEDED = {"b": 300 + 700 + 20, "c": 300 + 20}


@pytest.mark.parametrize(
    "order", [("unmarked", "b", "c"), ("c", "b", "unmarked"), ("b", "unmarked", "c")], ids="-".join
)
@pytest.mark.parametrize("importing", ["unmarked", "deeper", "conftest"])
def test_whose_memory_it_is_does_not_depend_on_when_torch_came(project, order, importing):
    names = {each: f"below/test_{at}_{each}.py" for at, each in enumerate(order)}
    collected = {names[each]: text for each, text in COLLECTED.items()}
    where = dict.fromkeys(("unmarked", "deeper", "conftest"), "") | {importing: "import torch\n"}
    for name, text in {**TORCH, **IMPORTED, **collected}.items():
        (project.path / name).parent.mkdir(exist_ok=True)
        (project.path / name).write_text(text.format(**where))
    result = run(project, "")
    result.assert_outcomes(passed=1, failed=2)
    # What an import left counts for all who may use it; what another module made does not.
    for each, size in NEEDED.items():
        result.stdout.fnmatch_lines([f"*{names[each]}::test_step: allocated peak {size:,} bytes *"])


def test_a_module_that_asks_sees_the_pretended_card_while_it_is_imported(project):
    project.makepyfile(
        test_it="""
        import pytest, torch

        DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

        @pytest.mark.max_gpu_memory("1 MiB")
        def test_step():
            torch.ones(10, device=DEVICE)
            assert DEVICE == "cuda"
        """
    )
    result = project.runpytest_subprocess("-p", "pytest_memreq.plugin", timeout=120)
    result.assert_outcomes(passed=1)


def test_a_test_that_is_deselected_has_a_marker_all_the_same(project):
    """A mistake in it is said, and what its file has is known to the baseline."""
    wrong = "import pytest\n\n@pytest.mark.max_gpu_memory('much')\ndef test_other():\n    pass\n"
    result = run(project, "", "-k", "test_step", test_it=wrong + NOTHING)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: test_it.py::test_other: max_gpu_memory*much*"])
