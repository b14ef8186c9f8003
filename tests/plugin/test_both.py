"""`--memreq=both`: the same test simulated, then measured."""

import json
from fnmatch import fnmatch

import pytest

TESTS = """
    import pytest
    import torch

    SEEN = []

    @pytest.mark.max_gpu_memory(9000)
    def test_step(card, memreq):
        SEEN.append(str(memreq.device))
        if memreq.device == "scripted":
            card.allocate(8000)
        else:
            torch.zeros({elements}, device=memreq.device)

    @pytest.mark.max_gpu_memory(9000)
    def test_that_needs_values(card, memreq):
        assert len(SEEN) % 2 == 0
        if memreq.device != "scripted":
            assert torch.randn(1, device=memreq.device).item() == 1
        card.allocate(1000)

    def test_of_no_budget():
        assert SEEN == ["cuda:0", "scripted"]
"""

FIGURES = (
    "requested 7.42 KiB (-400 bytes, -5.00%), allocated 7.50 KiB (-320 bytes, -4.00%), "
    "reserved 2.00 MiB (not measured)"
)


def run(pytester, *options, elements=1900):
    pytester.makepyfile(TESTS.format(elements=elements))
    return pytester.runpytest("--memreq=both", "--memreq-report", *options)


def simulated(pytester):
    report = json.loads((pytester.path / "memreq-report" / "memreq.json").read_text())
    return {test["nodeid"].rpartition("::")[2]: test["simulated"] for test in report["tests"]}


def test_each_test_is_simulated_and_then_measured(scripted):
    result = run(scripted)
    result.assert_outcomes(passed=3)
    found = simulated(scripted)["test_step"]
    assert found["gpu"] == "NVIDIA H200"
    assert found["peak"]["requested_bytes"] == 7600
    assert found["peak"]["allocated_bytes"] == 7680
    assert found["reason"] == ""
    result.stdout.fnmatch_lines(
        [
            "measured on Scripted card*",
            "within*7.81 KiB of*",
            "*::test_step",
            f"    simulated on NVIDIA H200: {FIGURES}",
        ]
    )


def test_equal_figures_are_said_to_be_equal(scripted):
    run(scripted, elements=2000).stdout.fnmatch_lines(["*requested 7.81 KiB (as measured), *"])


def test_what_cannot_be_simulated_is_measured_all_the_same(scripted):
    run(scripted)
    found = simulated(scripted)["test_that_needs_values"]
    assert found["reason"].startswith("needs real values (item()")
    assert found["peak"]["allocated_bytes"] == 512


def test_a_simulation_over_the_budget_fails_nothing(scripted):
    run(scripted, elements=5000).assert_outcomes(passed=3)
    assert simulated(scripted)["test_step"]["peak"]["allocated_bytes"] == 20480


def test_the_card_to_simulate_can_be_named(scripted):
    run(scripted, "--memreq-gpu=A10G")
    assert simulated(scripted)["test_step"]["gpu"] == "NVIDIA A10G"


def test_figures_come_through_workers(scripted):
    run(scripted, "-n", "2", "--dist=loadfile").assert_outcomes(passed=3)
    assert simulated(scripted)["test_step"]["peak"]["allocated_bytes"] == 7680


def test_without_a_device_nothing_is_checked(pytester):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.max_gpu_memory("1 GiB")
        def test_step():
            pass
        """
    )
    result = pytester.runpytest("--memreq=both")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*unchecked: no device to measure on*"])


def test_fixtures_do_not_pass_from_the_simulation_to_the_measured_run(scripted):
    scripted.makepyfile(
        """
        import pytest
        import torch

        @pytest.fixture(scope="session")
        def made():
            return torch.cuda.is_available()

        def run(made, card):
            if made:
                torch.zeros(10, device="cuda")
            else:
                card.allocate(100)

        @pytest.mark.max_gpu_memory(9000)
        def test_first(made, card):
            run(made, card)

        @pytest.mark.max_gpu_memory(9000)
        def test_second(made, card):
            run(made, card)
        """
    )
    result = scripted.runpytest("--memreq=both", "--memreq-report")
    result.assert_outcomes(passed=2)
    for found in simulated(scripted).values():
        assert found["peak"]["requested_bytes"] == 40


def test_a_divergence_beyond_the_bound_is_said(scripted):
    far = "allocated was simulated as 1.00 MiB (1,048,576 bytes) and measured as 7.81 KiB"
    result = run(scripted, "--memreq-divergence=10 %", elements=1 << 18)
    result.assert_outcomes(passed=3)  # it is said, and fails nothing
    result.stdout.fnmatch_lines([f"    {far} (8,000 bytes), +1,040,576 bytes apart*than 10 %, 0 B"])
    assert simulated(scripted)["test_step"]["divergence"][1].startswith(far)
    run(scripted, elements=1 << 18)  # by default 2 MiB are nothing
    assert simulated(scripted)["test_step"]["divergence"] == []


BASELINE = """
    import pytest
    import torch

    @pytest.mark.max_gpu_memory()
    def test_step(card, memreq):
        if memreq.device == "scripted":
            card.allocate({bytes})
        else:
            torch.zeros({elements}, device=memreq.device)
"""


def test_a_measured_test_is_explained_by_its_simulation(scripted, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    options = ("--memreq=both", "--memreq-report", "--memreq-tolerance=0")
    scripted.makepyfile(test_suite=BASELINE.format(bytes=1000, elements=1 << 20))
    scripted.runpytest(*options, "--memreq-update=new").assert_outcomes(passed=1)
    *entries, _ = json.loads((scripted.path / "memreq-baseline.json").read_text())["entries"]
    assert [entry["device"]["mode"] for entry in entries] == ["measured", "simulated"]
    scripted.runpytest(*options).assert_outcomes(passed=1)
    scripted.makepyfile(test_suite=BASELINE.format(bytes=2000, elements=1 << 21))
    result = scripted.runpytest(*options)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E *MemoryRegressed: *allocated peak 1.95 KiB (2,000 bytes) is +1,000 bytes*",
            "*by what was simulated:",
            "*+4.00 MiB *: (1048576,) -> (2097152,) float32*",
        ]
    )
    scripted.runpytest(*options, "--memreq-update=failing").assert_outcomes(passed=1)
    *entries, _ = json.loads((scripted.path / "memreq-baseline.json").read_text())["entries"]
    assert [entry["peak"]["allocated_bytes"] for entry in entries] == [2000, 8 << 20]


BOTH = ("--memreq=both", "--memreq-tolerance=0")


def made(scripted, monkeypatch, *options):
    """A baseline of 1000 bytes that were measured and 4 MiB that were simulated."""
    monkeypatch.delenv("CI", raising=False)
    scripted.makepyfile(test_suite=BASELINE.format(bytes=1000, elements=1 << 20))
    scripted.runpytest("--memreq-update=new", *options).assert_outcomes(passed=1)


def verdict_of(pytester):
    report = json.loads((pytester.path / "memreq-report" / "memreq.json").read_text())
    return report["tests"][0]["verdict"], report["tests"][0]["reason"]


@pytest.mark.parametrize(
    ("bytes_", "elements", "verdict", "reason"),
    [
        (1000, 1 << 21, "regressed", "simulated: allocated peak 8.00 MiB *; requested *"),
        (1000, 1 << 19, "improved", "simulated: allocated peak 2.00 MiB *takes the gain*"),
        (2000, 1 << 21, "regressed", "allocated peak 1.95 KiB *; simulated: allocated peak 8.*"),
        (900, 1 << 21, "regressed", "simulated: allocated peak 8.00 MiB *; allocated peak 900*"),
    ],
)
def test_the_simulation_is_held_against_its_own_entry(
    scripted, monkeypatch, bytes_, elements, verdict, reason
):
    made(scripted, monkeypatch, *BOTH)
    scripted.makepyfile(test_suite=BASELINE.format(bytes=bytes_, elements=elements))
    result = scripted.runpytest(*BOTH, "--memreq-report")
    result.assert_outcomes(**{"failed" if verdict == "regressed" else "passed": 1})
    found, why = verdict_of(scripted)
    assert (found, fnmatch(why, reason)) == (verdict, True), why
    if verdict == "regressed":
        result.stdout.fnmatch_lines(["E *MemoryRegressed: *simulated: *", "*+4.00 MiB *float32*"])
    scripted.runpytest(*BOTH, "--memreq-update=failing").assert_outcomes(passed=1)
    scripted.runpytest(*BOTH, "--memreq-report").assert_outcomes(passed=1)
    assert verdict_of(scripted) == ("within", "as in the baseline")


def test_an_improvement_of_the_simulation_fails_where_that_is_asked_for(scripted, monkeypatch):
    made(scripted, monkeypatch, *BOTH)
    scripted.makepyprojecttoml('[tool.memreq.tolerances]\n"*" = {bytes = 0, improved = "fail"}')
    scripted.makepyfile(test_suite=BASELINE.format(bytes=1000, elements=1 << 19))
    scripted.runpytest("--memreq=both").assert_outcomes(failed=1)


def test_a_simulation_that_does_not_come_through_any_more_is_missed(scripted, monkeypatch):
    made(scripted, monkeypatch, *BOTH)
    path = scripted.path / "test_suite.py"
    asked = "\n        assert torch.randn(1, device='cuda').item() == 7\n"
    path.write_text(path.read_text() + asked)
    result = scripted.runpytest(*BOTH)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*unchecked: simulated: needs real values (item()*"])
    skipped = path.read_text().replace("else:\n", "else:\n        pytest.skip('no card')\n")
    path.write_text(skipped)
    scripted.runpytest(*BOTH).assert_outcomes(passed=1)


def test_without_an_entry_of_the_simulation_what_was_measured_is_judged(scripted, monkeypatch):
    made(scripted, monkeypatch, "--memreq=measure")
    result = scripted.runpytest(*BOTH, "--memreq-report")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["note: its simulation is not in the baseline: *(1 test)"])


def test_a_divergence_is_shown_without_a_report(scripted):
    scripted.makepyfile(TESTS.format(elements=1 << 18))
    result = scripted.runpytest("--memreq=both", "--memreq-divergence=10 %")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["    allocated was simulated as 1.00 MiB*than 10 %, 0 B"])
    scripted.runpytest("--memreq=both").stdout.no_fnmatch_line("*was simulated as*")
