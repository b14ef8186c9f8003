"""Other kinds of tests, fixtures of all scopes, and hooks of others that raise."""

import pytest

from tests.plugin.citizen import VERDICTS

WITHIN, OVER = ("within", "passed"), ("over", "failed")
ERROR = ("error", "failed")


def told(runs, source, *options):
    """The verdicts of a suite by the tests' names, and what was printed."""
    runs.write(source)
    result = runs.here(*options)
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
    return runs.verdicts, result


RERUNS = """
from collections import Counter

times = Counter()

@pytest.fixture
def unsure():
    times["setup"] += 1
    assert times["setup"] > 1

@pytest.mark.max_gpu_memory(1000)
def test_is_over_at_first(card):
    times["over"] += 1
    card.allocate(1001 if times["over"] == 1 else 10)

@pytest.mark.max_gpu_memory(1000)
def test_is_over(card):
    times["always"] += 1
    card.allocate(2000 + times["always"])

@pytest.mark.max_gpu_memory(1000)
def test_whose_setup_fails_at_first(unsure, card):
    card.allocate(10)

@pytest.mark.max_gpu_memory(1000)
def test_fails_at_last(card):
    times["last"] += 1
    card.allocate(10 if times["last"] > 1 else 1001)
    assert times["last"] == 1
"""


def test_of_a_test_that_is_run_again_the_last_attempt_counts(runs):
    verdicts, result = told(runs, RERUNS, "-p", "pytest_rerunfailures", "--reruns=1")
    assert verdicts == {
        "test_is_over_at_first": WITHIN,
        "test_is_over": OVER,
        "test_whose_setup_fails_at_first": WITHIN,
        "test_fails_at_last": ERROR,
    }
    result.stdout.fnmatch_lines(["*2,002 bytes*", "*2 failed, 2 passed, 4 rerun*"])


CASES = """
import unittest

@pytest.mark.max_gpu_memory(1000)
class Steps(unittest.TestCase):
    def setUp(self):
        BACKEND.allocate(100)

    def tearDown(self):
        BACKEND.free(BACKEND.live)

    def test_within(self):
        BACKEND.allocate(900)

    def test_over_with_what_its_setup_holds(self):
        BACKEND.allocate(901)

    def test_skips(self):
        self.skipTest("no data")

    def test_with_a_subtest_that_fails(self):
        for size in (1, 2):
            with self.subTest(size=size):
                BACKEND.allocate(size)
                self.assertEqual(size, 1)

    @unittest.expectedFailure
    def test_is_expected_to_fail(self):
        BACKEND.allocate(1)
        self.fail("as it should")

@pytest.mark.max_gpu_memory(1000)
class Broken(unittest.TestCase):
    def setUp(self):
        raise OSError("no data")

    def test_never_begins(self):
        pass

@pytest.mark.max_gpu_memory(1000)
class Asynchronous(unittest.IsolatedAsyncioTestCase):
    def tearDown(self):
        BACKEND.free(BACKEND.live)

    async def test_awaits_within(self):
        BACKEND.allocate(10)

    async def test_awaits_over(self):
        BACKEND.allocate(1001)
"""


def test_cases_of_unittest(runs):
    verdicts, _ = told(runs, CASES)
    subtests = verdicts.pop("test_with_a_subtest_that_fails")
    assert subtests[0] == "error"  # the outcome of the test around it depends on pytest's version
    assert verdicts == {
        "test_within": WITHIN,
        "test_over_with_what_its_setup_holds": OVER,
        "test_skips": ("unchecked", "skipped"),
        "test_is_expected_to_fail": ("error", "xfailed"),
        "test_never_begins": ERROR,
        "test_awaits_within": WITHIN,
        "test_awaits_over": OVER,
    }


DOCTEST = '''"""
>>> from conftest import BACKEND
>>> number = BACKEND.allocate(500)
>>> BACKEND.free(500)
"""

import pytest

@pytest.mark.max_gpu_memory(1000)
def test_within(card):
    card.allocate(10)
'''


def test_a_doctest_that_is_over_shows_none_of_the_frames_around_it(runs):
    (runs.path / "test_doc.py").write_text(DOCTEST)
    result = runs.here("--doctest-modules", "test_doc.py", "--memreq-all", "--memreq-budget=499")
    assert runs.verdicts == {"test_within": WITHIN, "test_doc": OVER}
    result.stdout.fnmatch_lines(["*MemoryBudgetExceeded: test_doc.py::test_doc: allocated*"])
    assert "pluggy/" not in result.stdout.str()


def test_a_doctest_without_a_budget_is_left_alone(runs):
    (runs.path / "test_doc.py").write_text(DOCTEST)
    runs.here("--doctest-modules", "test_doc.py").assert_outcomes(passed=2)
    assert runs.verdicts == {"test_within": WITHIN}


# A conftest.py with tests that are no functions, whose author did not think of ours.
OF_ANOTHER_KIND = """
class Step(pytest.Item):
    def runtest(self):
        BACKEND.allocate(500)
        BACKEND.free(500)

    def repr_failure(self, excinfo):
        return None

class Steps(pytest.File):
    def collect(self):
        yield Step.from_parent(self, name="step")

def pytest_collect_file(file_path, parent):
    if file_path.suffix == ".step":
        return Steps.from_parent(parent, path=file_path)
"""


def test_tests_of_others_own_kinds_fail_with_the_figures(runs):
    conftest = runs.path / "conftest.py"
    conftest.write_text(conftest.read_text() + OF_ANOTHER_KIND)
    (runs.path / "a.step").touch()
    result = runs.here("a.step", "--memreq-all", "--memreq-budget=499")
    assert list(runs.verdicts.values()) == [OVER]
    result.stdout.fnmatch_lines(["*MemoryBudgetExceeded: *a.step::step: allocated peak*"])


FIXTURES = """
pytestmark = pytest.mark.max_gpu_memory(1000)

for scope in ("function", "class", "module", "package", "session"):
    def made(request):
        size = getattr(request, "param", 100)
        BACKEND.allocate(size)
        yield size
        BACKEND.free(size)
    globals()[f"of_{scope}"] = pytest.fixture(made, scope=scope, name=f"of_{scope}")

def pytest_generate_tests(metafunc):
    if "generated" in metafunc.fixturenames:
        metafunc.parametrize("generated", [1, 901])

def test_of_every_scope(of_function, of_class, of_module, of_package, of_session, card):
    card.allocate(500)

def test_over_with_those_that_are_left(of_module, of_package, of_session, card):
    card.allocate(701)

def test_generated(of_function, generated, card):
    card.allocate(generated)

@pytest.mark.parametrize("of_function", [999, 1001], indirect=True)
def test_indirect(of_function):
    BACKEND.allocate(0)
"""


def test_fixtures_of_every_scope_and_parameters_of_every_kind(runs):
    verdicts, _ = told(runs, FIXTURES)
    assert verdicts == {
        "test_of_every_scope": WITHIN,
        "test_over_with_those_that_are_left": OVER,
        "test_generated[1]": WITHIN,
        "test_generated[901]": OVER,
        "test_indirect[999]": WITHIN,
        "test_indirect[1001]": OVER,
    }


@pytest.mark.parametrize("hook", ["pytest_runtest_setup", "pytest_runtest_call"])
@pytest.mark.parametrize("order", ["tryfirst", "trylast"])
def test_a_hook_of_anothers_that_raises_is_an_error_and_none_of_ours(runs, hook, order):
    conftest = runs.path / "conftest.py"
    conftest.write_text(
        conftest.read_text()
        + f"""
@pytest.hookimpl({order}=True)
def {hook}(item):
    if item.name == "test_within":
        raise RuntimeError("of others")
"""
    )
    result = runs.here()
    assert runs.verdicts == {**VERDICTS, "test_within": ERROR}
    result.stdout.fnmatch_lines(["E *RuntimeError: of others"])
    assert "pytest_memreq/plugin" not in result.stdout.str()  # none of our frames


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_fixture_of_conftest_that_raises_shows_none_of_our_frames(runs, when):
    steps = {
        "before": "raise OSError('no data')\n    yield",
        "after": "yield\n    raise OSError('no data')",
    }
    conftest = runs.path / "conftest.py"
    conftest.write_text(
        conftest.read_text() + f"\n@pytest.fixture\ndef broken():\n    {steps[when]}\n"
    )
    source = "@pytest.mark.max_gpu_memory(1000)\ndef test_step(broken, card):\n    pass\n"
    _, result = told(runs, source)
    result.stdout.fnmatch_lines(["E *OSError: no data"])
    assert "pytest_memreq/plugin" not in result.stdout.str()


def test_a_teardown_that_raises_fails_the_test_and_leaves_its_figures(runs):
    source = """
@pytest.fixture
def broken():
    yield
    raise OSError("at the end")

@pytest.mark.max_gpu_memory(1000)
def test_step(broken, card):
    card.allocate(10)
"""
    verdicts, result = told(runs, source)
    result.assert_outcomes(passed=1, errors=1)
    assert verdicts["test_step"][0] in ("within", "error")


SIMULATED = """
import logging, sys, torch

pytestmark = pytest.mark.max_gpu_memory("1 GiB")

def work(device="cuda"):
    return torch.ones(1000, device=device) + 1

def test_capsys(capsys):
    print("a line")
    work()
    assert capsys.readouterr().out == "a line\\n"

def test_capfd(capfd):
    sys.stdout.write("a line")
    sys.stdout.flush()
    work()
    assert capfd.readouterr().out == "a line"

def test_caplog(caplog):
    logging.getLogger().warning("a line")
    work()
    assert caplog.messages == ["a line"]

def test_monkeypatch(monkeypatch):
    monkeypatch.setattr(torch, "ones", lambda *size, device: torch.zeros(*size, device=device))
    work()

def test_tmp_path(tmp_path):
    torch.save(torch.ones(3), tmp_path / "weights.pt")
    assert (tmp_path / "weights.pt").exists()
    work()

def test_recwarn(recwarn):
    work()
    assert not recwarn.list
"""


def test_pytests_own_fixtures_in_simulated_tests(pytester):
    pytester.makepyfile(test_suite="import pytest\n" + SIMULATED)
    pytester.runpytest("--memreq=simulate").assert_outcomes(passed=6)
