"""Several reports as one: of the shards of a suite, and of jobs that ran the same tests elsewhere.

Pure, and of the same result whatever the order of the reports is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import groupby

from pytest_memreq.gate.divergence import BOUND, beyond
from pytest_memreq.reports.together import largest_together
from pytest_memreq.reports.worst import is_worse, worst
from pytest_memreq.results import Environment, Results, RunStatus, Simulated, TestResult
from pytest_memreq.strict_json import to_text

JOINED = ("mode", "gpu")  # of these each test says its own

Found = tuple[TestResult, str]  # a test, and the report that has it


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A report, and where it is from."""

    where: str
    results: Results


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """The one report, and a line for each thing to know of how it came about."""

    results: Results
    notices: tuple[str, ...] = ()


def merge(parts: Iterable[Part], missing: Sequence[str] = ()) -> Merged:
    """All tests of the reports.

    A test that several have: what was simulated of it goes beside what was measured, and of two of
    a kind the worse counts. `missing` says which reports are not there; with one, or with a report
    that is incomplete, the whole is.
    """
    ordered = sorted(parts, key=lambda part: (part.where, to_text(part.results.to_dict())))
    incomplete = [part.where for part in ordered if part.results.status == "incomplete"]
    status: RunStatus = "incomplete" if missing or incomplete else "complete"
    found = [(test, part.where) for part in ordered for test in part.results.tests]
    found.sort(key=lambda each: each[0].nodeid)
    tests, notices = [], [*sorted(missing), *(f"{where}: is incomplete" for where in incomplete)]
    for _, group in groupby(found, key=lambda each: each[0].nodeid):
        test, notice = _one(list(group))
        tests.append(test)
        notices += notice
    merged = Results(
        tests=tuple(tests),
        environment=common([part.results.environment for part in ordered]),
        status=status,
        running=tuple(sorted({nodeid for p in ordered for nodeid in p.results.running})),
        together=largest_together(part.results.together for part in ordered),
    )
    return Merged(results=merged, notices=tuple(notices))


def common(environments: Iterable[Environment]) -> Environment:
    """What all have in common, None for the rest; modes and cards all that there are."""
    known = [asdict(each) for each in environments if each.mode is not None]
    if not known:
        return Environment()
    values = {
        field.name: sorted({each[field.name] for each in known}, key=str)
        for field in fields(Environment)
    }
    joined = {name: ", ".join(map(str, values[name])) for name in JOINED}
    rest = {name: each[0] if len(each) == 1 else None for name, each in values.items()}
    return Environment(**{**rest, **joined, "world_size": max(values["world_size"])})


def _one(found: Sequence[Found]) -> tuple[TestResult, list[str]]:
    """The one result of a test, and what is to be said of there having been several."""
    simulated = [each for each in found if each[0].mode == "simulated"]
    rest = [each for each in found if each[0].mode != "simulated"]
    notices = [notice for kind in (simulated, rest) if len(kind) > 1 for notice in _told(kind)]
    test = _worst(rest or simulated)
    if rest and simulated and test.mode == "measured" and test.simulated is None:
        test = _beside(test, _worst(simulated))
    return test, notices


def _worst(found: Sequence[Found]) -> TestResult:
    """Of equals the same one, whatever their order is."""
    return worst(sorted((test for test, _ in found), key=lambda test: to_text(test.to_dict())))


def _told(found: Sequence[Found]) -> list[str]:
    places = ", ".join(sorted({where for _, where in found}))
    [first, *others] = [(test.verdict, test.gpu, test.peak) for test, _ in found]
    is_same = all(each == first for each in others)
    which = (
        "the same" if is_same else f"other figures, and the worse count: {_worst(found).verdict}"
    )
    return [f"{found[0][0].nodeid}: is in several reports ({places}), with {which}"]


def _beside(test: TestResult, simulated: TestResult) -> TestResult:
    """A measured test with what another job simulated of it; the worse verdict counts."""
    reason = "" if simulated.is_checked else simulated.reason
    said = Simulated(
        gpu=simulated.gpu or "",
        peak=simulated.peak,
        reason=reason,
        breakdown=simulated.breakdown,
        sites=simulated.sites,
        timeline=simulated.timeline,
        baseline=simulated.baseline,
        grew=simulated.grew,
        divergence=() if reason else beyond(simulated.peak, test.peak, BOUND),
    )
    both = replace(test, simulated=said)
    if not is_worse(simulated.verdict, test.verdict):
        return both
    return replace(
        both,
        verdict=simulated.verdict,
        reason=f"simulated: {simulated.reason}",
        cause=simulated.cause,
        outcome=simulated.outcome,
        grew=simulated.grew,
        hints=simulated.hints,
    )
