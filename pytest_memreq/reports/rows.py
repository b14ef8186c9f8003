"""What every form of a report says of a test and of a run, in the same words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict

from pytest_memreq.gate.hints import describe_hint
from pytest_memreq.gate.verdict import SHOWN_SITES, describe_site, describe_survivor, figure
from pytest_memreq.reports.text import visible
from pytest_memreq.reports.worst import BY_SEVERITY
from pytest_memreq.requirement import METRICS, Breakdown, Metric
from pytest_memreq.results import Environment, RankResult, Results, TestResult
from pytest_memreq.units import format_size

WORST_FIRST = ("over", "regressed", "error", "unchecked", "improved", "expected")
FAILING = ("over", "regressed", "error")
UNFINISHED = "The run did not finish: tests are missing here, and nothing is known of them"
SHOWN = 5
SHOWN_RANKS = 8


def outcome(results: Results) -> str:
    """In a word or two: only a run that finished, and checked all that it had to, has passed."""
    if results.status == "incomplete":
        return "incomplete"
    if any(map(has_failed, results.tests)):
        return "failed"
    if not all(test.is_checked for test in results.tests):
        return "not all checked"
    return "passed" if results.tests else "nothing checked"


def has_failed(test: TestResult) -> bool:
    """True where the run is red for it."""
    is_bad = test.verdict in FAILING and test.outcome not in ("skipped", "xfailed")
    return is_bad or test.outcome == "failed"


def severity(test: TestResult) -> int:
    """0 for the worst: what tests are sorted by."""
    word = shown_verdict(test)
    return WORST_FIRST.index(word) if needs_a_look(test) else len(WORST_FIRST)


def needs_a_look(test: TestResult) -> bool:
    """False where it is within, or fails as it is expected to: what grew is never expected."""
    is_expected = test.outcome == "xfailed" and test.verdict != "regressed"
    return test.verdict != "within" and not is_expected


def shown_verdict(test: TestResult) -> str:
    """The verdict word, or that an excess was expected."""
    return "expected" if test.verdict == "over" and test.outcome == "xfailed" else test.verdict


def used_shares(test: TestResult) -> dict[Metric, float]:
    """The share of each limit that its peak uses, 1.0 at the limit."""
    pairs = {m: (test.peak.of(m), test.budget.get(f"{m}_bytes")) for m in METRICS}
    return {
        metric: size / limit if limit else float("inf")
        for metric, (size, limit) in pairs.items()
        if size is not None and limit is not None
    }


def tightest(test: TestResult) -> Metric:
    """The metric that is nearest to its limit; allocated where there is none."""
    used = used_shares(test)
    return max(used, key=lambda metric: used[metric], default="allocated")


def evidence(test: TestResult) -> Iterator[str]:
    """Lines that bear the verdict out, the text as it is: nothing in it is made safe."""
    yield from rank_lines(test)
    yield from map(describe_survivor, test.survivors[:SHOWN_SITES])
    yield from test.grew
    if test.fixtures_bytes:
        yield f"fixtures hold {figure(test.fixtures_bytes)} of it"
    if test.verdict == "unchecked":
        return
    if test.breakdown is not None and test.breakdown.allocated_bytes:
        yield breakdown_text(test.breakdown)
        yield from map(describe_site, test.sites[:SHOWN_SITES])
    for hint in test.hints:
        yield from describe_hint(hint)


def ranks_text(test: TestResult) -> str | None:
    """One line: how many ranks ran the test, and how unequal they are; None for one process.

    The imbalance is that of load balancing: the largest over the mean, less 1.
    """
    if test.ranks is None:
        return None
    sizes = [s for rank in test.ranks if (s := rank.peak.allocated_bytes) is not None]
    if not sizes:
        return f"{len(test.ranks)} ranks, no peak of any is known"
    mean = sum(sizes) / len(sizes)
    imbalance = f", imbalance {max(sizes) / mean - 1:.1%}" if mean else ""
    return (
        f"{len(test.ranks)} ranks, {format_size(min(sizes))} to {format_size(max(sizes))}"
        f"{imbalance}"
    )


def rank_rows(test: TestResult) -> list[RankResult]:
    """Those to show: the worst first, of many the first SHOWN_RANKS."""
    return sorted(test.ranks or (), key=_rank_order)[:SHOWN_RANKS]


def rank_lines(test: TestResult) -> Iterator[str]:
    """A line a rank, the worst first; nothing is made safe."""
    for row in rank_rows(test):
        card = f"  {row.gpu}" if row.gpu else ""
        is_said = row.verdict == "within" or test.reason.endswith(row.reason)
        reason = "" if is_said else f"  {row.reason}"
        size = size_text(row.peak.allocated_bytes)
        yield f"rank {row.rank}  {row.verdict:9} {size:>10}{card}{reason}"
    more = len(test.ranks or ()) - SHOWN_RANKS
    if more > 0:
        yield f"and {more} more ranks, none worse"


def _rank_order(row: RankResult) -> tuple[int, int, int]:
    return -BY_SEVERITY.index(row.verdict), -(row.peak.allocated_bytes or 0), row.rank


def breakdown_text(breakdown: Breakdown) -> str:
    """One line: the sizes, the largest first, each with its share of `allocated`; the context."""
    known = [(size, word) for word, size in breakdown.items() if size and word != "context"]
    total = breakdown.allocated_bytes
    sizes = [
        f"{word} {format_size(size)} ({size / total:.0%})"
        for size, word in sorted(known, reverse=True)
    ]
    context = breakdown.context_bytes
    return ", ".join([*sizes, *([f"beside it context {format_size(context)}"] if context else [])])


def size_text(size_bytes: int | None) -> str:
    """A size for people, or that it is not known."""
    return "?" if size_bytes is None else format_size(size_bytes)


def unfinished(results: Results, quote: Callable[[str], str] = visible) -> str | None:
    """What a run that did not finish leaves open, None for one that did.

    One line; `quote` makes node ids safe.
    """
    if results.status == "complete":
        return None
    if not results.running:
        return f"{UNFINISHED}."
    shown = ", ".join(map(quote, results.running[:SHOWN]))
    more = len(results.running) - SHOWN
    return f"{UNFINISHED}. Running when it ended: {shown}{f' and {more} more' * (more > 0)}"


def source(where: Environment) -> str:
    """One line: how the figures were found, and on what; made safe."""
    if where.mode is None:
        return "nothing was simulated or measured"
    card = f"{where.gpu} ({format_size(where.gpu_bytes)})" if where.gpu_bytes else f"{where.gpu}"
    torch = str(where.torch).partition("+")[0]  # without the build, which the files name
    return visible(f"{where.mode} on {card}, torch {torch}")


def described(where: Environment) -> Iterator[tuple[str, str]]:
    """What is known of an environment, by name; the text as it is."""
    for name, value in asdict(where).items():
        if value is not None:
            text = size_text(value) if name == "gpu_bytes" else str(value)
            yield name.replace("_bytes", " memory").replace("_", " "), text


def counted_notes(results: Results) -> list[tuple[str, str]]:
    """Each note once, and of how many tests it is."""
    counts = Counter(note for test in results.tests for note in test.notes)
    return [(note, "1 test" if n == 1 else f"{n} tests") for note, n in counts.items()]


def together_lines(results: Results) -> Iterator[str]:
    """A line for each card that workers shared: the most that was in use of it at once."""
    for each in results.together:
        tests = "1 test" if each.tests == 1 else f"{each.tests} tests"
        yield (
            f"card {each.card}: at most {tests} at once, {size_text(each.peak.allocated_bytes)} of "
            f"allocated together, room for {format_size(each.rooms_bytes)} set aside"
        )


def counted(results: Results) -> str:
    """One line: `1 over, 30 within`."""
    counts = [f"{count} {word}" for word, count in results.summary().items() if count]
    expected = sum(shown_verdict(test) == "expected" for test in results.tests)
    expected_text = f" ({expected} of them expected)" if expected else ""
    return f"{', '.join(counts) or 'no test was checked'}{expected_text}"
