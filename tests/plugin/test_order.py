"""The same figure alone, first, last, shuffled and among workers."""

import random

import pytest

from tests.plugin.reports_of import peaks_of, results_of

SUITE = """
    import pytest
    from conftest import BACKEND

    LEFT = []

    @pytest.fixture(scope="session")
    def weights():
        BACKEND.allocate(900)
        BACKEND.multiply()
        scratch = BACKEND.allocate(50)
        yield
        BACKEND.blocks.pop(scratch, None)

    @pytest.fixture(scope="module")
    def data():
        number = BACKEND.allocate(70)
        yield
        BACKEND.blocks.pop(number, None)

    @pytest.fixture
    def step(weights):
        BACKEND.allocate(8)

    pytestmark = pytest.mark.max_gpu_memory(5000)

    def test_that_uses_weights(weights, card):
        card.allocate(100)
        card.multiply()

    def test_that_uses_a_fixture_of_a_fixture(step, data, card):
        card.allocate(200)

    def test_that_asks_in_its_body(request, card):
        request.getfixturevalue("weights")
        card.allocate(300)

    def test_that_uses_nothing(card):
        card.allocate(400)
        card.multiply()

    def test_that_leaves_something():
        LEFT.append(BACKEND.allocate(500))
        BACKEND.multiply()

    def test_that_fails():
        LEFT.append(BACKEND.allocate(600))
        raise ValueError

    @pytest.mark.parametrize("size", [10, 20])
    def test_with_parameters(size, card):
        card.allocate(size)
"""

NAMES = (
    *("test_that_uses_weights", "test_that_uses_a_fixture_of_a_fixture"),
    *("test_that_asks_in_its_body", "test_that_uses_nothing", "test_that_leaves_something"),
    *("test_that_fails", "test_with_parameters[10]", "test_with_parameters[20]"),
)
PEAKS = {
    "test_that_uses_weights": 900 + 50 + 100 + 64,
    "test_that_uses_a_fixture_of_a_fixture": 900 + 50 + 8 + 70 + 200,
    "test_that_asks_in_its_body": 900 + 50 + 64 + 300,
    "test_that_uses_nothing": 400 + 64,
    "test_that_leaves_something": 500 + 64,
    "test_that_fails": 600,
    "test_with_parameters[10]": 10,
    "test_with_parameters[20]": 20,
}


def run(pytester, names, *options):
    path = pytester.makepyfile(test_suite=SUITE)
    pytester.runpytest("--memreq-report", *options, *(f"{path}::{name}" for name in names))
    return peaks_of(pytester)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "test_that_asks_in_its_body"])
def test_alone(scripted, name):
    assert run(scripted, [name]) == {name: PEAKS[name]}


@pytest.mark.parametrize("seed", range(6))
def test_shuffled(scripted, seed):
    names = list(NAMES)
    random.Random(seed).shuffle(names)
    peaks = run(scripted, names)
    # Set up within the call, its product's workspace counts; else it was given up before.
    in_body = peaks.pop("test_that_asks_in_its_body")
    assert in_body in (PEAKS["test_that_asks_in_its_body"], 900 + 50 + 300)
    assert peaks == {n: size for n, size in PEAKS.items() if n != "test_that_asks_in_its_body"}


def test_repeated(scripted):
    assert [run(scripted, NAMES) for _ in range(3)] == [PEAKS | run(scripted, NAMES)] * 3


@pytest.mark.parametrize("workers", ["2", "3"])
def test_among_workers(scripted, workers):
    path = scripted.makepyfile(test_suite=SUITE)
    scripted.runpytest_subprocess("--memreq-report", "-n", workers, path)
    peaks = peaks_of(scripted)
    peaks.pop("test_that_asks_in_its_body")
    assert peaks == {n: size for n, size in PEAKS.items() if n != "test_that_asks_in_its_body"}


def test_what_fixtures_hold_is_told_apart(scripted):
    run(scripted, NAMES)
    tests = results_of(scripted)
    assert tests["test_that_uses_weights"]["fixtures_bytes"] == 950
    assert tests["test_that_uses_a_fixture_of_a_fixture"]["fixtures_bytes"] == 950 + 8 + 70
    assert tests["test_that_uses_nothing"]["fixtures_bytes"] == 0


def test_who_left_something_is_named(scripted):
    run(scripted, ["test_that_leaves_something", "test_that_fails", "test_that_uses_nothing"])
    last = results_of(scripted)["test_that_uses_nothing"]
    assert last["held_by"] == [
        {"who": "test_suite.py::test_that_fails", "bytes": 600},
        {"who": "test_suite.py::test_that_leaves_something", "bytes": 500},
    ]
    assert last["held_bytes"] == 1100
    assert last["absolute_peak"]["allocated_bytes"] == 1100 + 464
    assert results_of(scripted)["test_that_fails"]["leaked_bytes"] == 600
    assert last["leaked_bytes"] == 0


def test_a_fixture_that_was_changed_by_an_earlier_test_is_not_charged_to_a_later_one(scripted):
    scripted.makepyfile(
        test_suite="""
        import pytest
        from conftest import BACKEND

        pytestmark = pytest.mark.max_gpu_memory(5000)

        @pytest.fixture(scope="module")
        def model():
            return BACKEND.allocate(100)

        def test_backward(model):
            BACKEND.allocate(100)  # gradients, which the model keeps

        def test_inference(model, card):
            card.allocate(10)
        """
    )
    scripted.runpytest("--memreq-report")
    test = results_of(scripted)["test_inference"]
    assert test["peak"]["allocated_bytes"] == 110
    assert test["held_by"] == [{"who": "test_suite.py::test_backward", "bytes": 100}]


def test_what_went_away_meanwhile_stays_counted_and_is_said(scripted):
    scripted.makepyfile(
        test_suite="""
        import pytest
        from conftest import BACKEND

        def test_fills_a_cache():
            BACKEND.allocate(300)

        @pytest.mark.max_gpu_memory(5000)
        def test_clears_it():
            BACKEND.blocks.clear()
            BACKEND.allocate(500)
        """
    )
    scripted.runpytest("--memreq-report")
    test = results_of(scripted)["test_clears_it"]
    assert test["peak"]["allocated_bytes"] == 500
    assert any("300 B that others left went away" in note for note in test["notes"])


def test_a_fixture_that_outlives_its_teardown_was_left_by_that_test(scripted):
    scripted.makepyfile(
        test_suite="""
        import pytest
        from conftest import BACKEND

        pytestmark = pytest.mark.max_gpu_memory(5000)

        @pytest.fixture
        def model():
            BACKEND.allocate(100)

        def test_first(model):
            BACKEND.allocate(7)

        def test_second(model, card):
            card.allocate(10)
        """
    )
    scripted.runpytest("--memreq-report")
    tests = results_of(scripted)
    assert tests["test_first"]["leaked_bytes"] == 107
    assert tests["test_second"]["peak"]["allocated_bytes"] == 110
    assert tests["test_second"]["held_by"] == [{"who": "test_suite.py::test_first", "bytes": 107}]


def test_all_devices_count_and_the_fullest_is_judged(scripted):
    scripted.makeconftest(
        (scripted.path / "conftest.py").read_text()
        + """
OTHER = ScriptedBackend(1)

def pytest_memreq_backend(config):
    return [BACKEND, OTHER]
"""
    )
    scripted.makepyfile(
        test_suite="""
        import pytest
        from conftest import OTHER

        @pytest.mark.max_gpu_memory(500)
        def test_on_one(card):
            card.allocate(300)

        @pytest.mark.max_gpu_memory(500)
        def test_on_both(card):
            card.allocate(300)
            OTHER.allocate(501)
        """
    )
    result = scripted.runpytest("--memreq-report")
    result.assert_outcomes(passed=1, failed=1)
    tests = results_of(scripted)
    assert tests["test_on_one"]["devices"] == []
    devices = {d["index"]: d["peak"]["allocated_bytes"] for d in tests["test_on_both"]["devices"]}
    assert devices == {0: 300, 1: 501}
    result.stdout.fnmatch_lines(["*device 1, Scripted card: 501 B*"])


KEPT_FOR_LONG = """
    import pytest
    from conftest import BACKEND

    class Cycle:
        size = 0

        def __init__(self):
            self.myself = self

        def __del__(self):
            BACKEND.free(self.size)

    kept = []

    @pytest.mark.max_gpu_memory(5000)
    @pytest.mark.parametrize("number", range(34))
    def test_step(card, number):
        card.allocate(10)
        if number == 1:
            kept.append(Cycle())

    @pytest.mark.max_gpu_memory(5000)
    def test_uses_it():
        kept[0].size = 300
        BACKEND.allocate(300)
        kept.clear()

    @pytest.mark.max_gpu_memory(5000)
    def test_leaves_something():
        BACKEND.allocate(7)

    @pytest.mark.max_gpu_memory(5000)
    @pytest.mark.parametrize("number", range(34))
    def test_later(card, number):
        card.allocate(10)
"""


# In a process of its own: what is set aside belongs to the whole process.
def test_garbage_is_found_however_long_it_was_kept(runs):
    runs.pytester.makepyfile(test_suite=KEPT_FOR_LONG)
    runs.process().assert_outcomes(passed=70)
    tests = results_of(runs.pytester)
    assert tests["test_uses_it"]["leaked_bytes"] == 0
    assert tests["test_leaves_something"]["leaked_bytes"] == 7
    assert {tests[f"test_later[{n}]"]["held_bytes"] for n in range(34)} == {7}


def test_what_tests_leave_to_look_through_does_not_grow_with_them(runs):
    runs.pytester.makepyfile(
        test_suite="""
        import gc
        import pytest

        @pytest.mark.max_gpu_memory(5000)
        @pytest.mark.parametrize("number", range(96))
        def test_step(card, number):
            card.allocate(10)
            counts.append(len(gc.get_objects()))

        counts = []

        def test_counts():
            assert max(counts[64:]) < 1.2 * max(counts[32:64])
        """
    )
    runs.process().assert_outcomes(passed=97)
