"""The controller's part of a baseline: what the run changes in it, and which entries are stale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

from pytest_memreq.errors import MemreqError
from pytest_memreq.gate.baseline import Entry
from pytest_memreq.gate.baseline_text import to_text
from pytest_memreq.gate.baseline_update import Coverage, Found, Update, file_of, stale, update
from pytest_memreq.gate.verdict import Word
from pytest_memreq.plugin.baselines import Baselines
from pytest_memreq.plugin.covering import OUTPUT, Covering, otherwise
from pytest_memreq.plugin.purpose import runs_tests
from pytest_memreq.plugin.reporting import Reporting
from pytest_memreq.reports.baseline_table import render
from pytest_memreq.reports.files import is_there, write_whole
from pytest_memreq.reports.reading import read_baseline
from pytest_memreq.reports.recording import entries_of
from pytest_memreq.reports.text import visible
from pytest_memreq.results import Results, TestResult

SHOWN_STALE = 5
MARK = "mark them with max_gpu_memory(), or take their entries out with memreq baseline prune"
UNFINISHED = "the run did not finish: the baseline is as it was"
NO_TESTS = "no test ran: the baseline is as it was"
NOT_THE_WRITER = "the baseline is written by the first rank (RANK=0), not by this one"


class Recording:
    """Writes the baseline at the end of a run that was asked to, and tells what is stale."""

    def __init__(self, config: pytest.Config, baselines: Baselines, reporting: Reporting) -> None:
        self._config = config
        self._baselines = baselines
        self._reporting = reporting
        self._problems = reporting.problems
        self._covered: list[dict[str, list[str]]] = []
        self._lines: list[str] = []

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object) -> None:
        """Hear what a worker collected."""
        output = getattr(node, "workeroutput", {})
        if OUTPUT in output:
            self._covered.append(output[OUTPUT])

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write what is to be written; a file that cannot be fails the run."""
        if not runs_tests(self._config) or not self._problems.is_ours:
            return
        why_not = self._why_not(exitstatus)
        if why_not:
            self._lines = [why_not] if self._baselines.which is not None else []
            return
        with self._problems.kept(self._baselines.path):
            self._lines += self._finished(self._reporting.results())
        self._problems.fail(session)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The table of what changed, ready for a pull request."""
        if not self._lines or self._config.getoption("no_summary", False):
            return
        terminalreporter.write_sep("=", "GPU memory baseline")
        for line in self._lines:
            terminalreporter.write_line(line)

    def _why_not(self, exitstatus: int) -> str:
        if not self._baselines.ranks.is_writer:
            return NOT_THE_WRITER
        if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            return NO_TESTS
        is_over = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        return "" if is_over else UNFINISHED

    def _finished(self, results: Results) -> Iterator[str]:
        yield from _told_other_torch(results)
        coverage = self._coverage(results)
        unchecked = self._no_longer_checked()
        if unchecked and self._baselines.missing != "ignore":
            raise MemreqError(
                _told(unchecked, "have a baseline and are not checked any more", MARK)
            )
        if self._baselines.which is None:
            yield from _told_stale([e.nodeid for e in stale(self._baselines.baseline, coverage)])
            return
        changed, missing = self._update(results, coverage)
        if not changed.is_empty:
            self._check_unchanged()
            write_whole(self._baselines.path, to_text(changed.baseline))
        yield from render(changed).split("\n")
        for test in missing:
            yield f"not written: {visible(test.nodeid)}: {test.verdict}: {visible(test.reason)}"
        option = otherwise(self._config)
        if option:
            yield f"entries of tests that are gone from their files stay, because of {option}"

    def _check_unchanged(self) -> None:
        """Raise MemreqError where somebody else wrote the file since it was read."""
        path = self._baselines.path
        now = read_baseline(path)
        if (now is not None) != self._baselines.was_there or (
            now is not None and now != self._baselines.baseline
        ):
            raise MemreqError(f"{path}: was changed while the tests ran, and is left so; run again")

    def _update(
        self, results: Results, coverage: Coverage
    ) -> tuple[Update, tuple[TestResult, ...]]:
        assert self._baselines.which is not None  # who does not write does not come here
        entries, missing = entries_of(results)
        tests = {test.nodeid: test for test in results.tests}
        found = [Found(entry=e, word=_word(tests[e.nodeid], e)) for e in entries]
        return update(self._baselines.baseline, found, self._baselines.which, coverage), missing

    def _coverage(self, results: Results) -> Coverage:
        covered = self._all_covered()
        entries, _ = entries_of(results)
        known = {file_of(entry.nodeid) for entry in self._baselines.baseline.entries}
        # A file that several projects share has tests that are none of this one's.
        is_ours = self._baselines.path.parent.resolve() == self._config.rootpath.resolve()
        gone = [file for file in known if is_ours and not is_there(self._config.rootpath / file)]
        return Coverage(
            files=frozenset([*gone, *(file for each in covered for file in each["files"])]),
            nodeids=frozenset(nodeid for each in covered for nodeid in each["nodeids"]),
            devices=tuple(dict.fromkeys(entry.device for entry in entries)),
        )

    def _all_covered(self) -> list[dict[str, list[str]]]:
        covering = self._config.pluginmanager.get_plugin("memreq-covering")
        assert isinstance(covering, Covering)  # registered with the session
        return self._covered or [covering.covered()]

    def _no_longer_checked(self) -> list[str]:
        covered = self._all_covered()
        unchecked = {nodeid for each in covered for nodeid in each["unchecked"]}
        return sorted(nodeid for nodeid in unchecked if self._baselines.knows(nodeid))


def _word(test: TestResult, entry: Entry) -> Word | None:
    """What the baseline said of an entry's figures: those of the test, or of its simulation."""
    is_beside = test.simulated is not None and entry.device.mode != test.mode
    before = test.simulated.baseline if is_beside and test.simulated else test.baseline
    return None if before is None else before.verdict


def _told_other_torch(results: Results) -> Iterator[str]:
    """A line for each other version of torch that tests were held against, and how loosely."""
    torch = results.environment.device_class().torch
    others = Counter(
        (before.device.torch, before.tolerance)
        for test in results.tests
        for before in (test.baseline, None if test.simulated is None else test.simulated.baseline)
        if before is not None and before.device is not None and before.device.torch != torch
    )
    for (other, tolerance), count in sorted(others.items(), key=str):
        tests = "1 figure was" if count == 1 else f"{count} figures were"
        yield visible(
            f"{tests} held against the baseline of torch {other or '?'} instead of {torch or '?'}, "
            f"tolerance {tolerance}; --memreq-update all adds those of torch {torch or '?'}"
        )


def _told_stale(nodeids: list[str]) -> Iterator[str]:
    if not nodeids:
        return
    yield _told(nodeids, "are in the baseline and gone", "--memreq-update new takes them out")


def _told(nodeids: Sequence[str], what: str, advice: str) -> str:
    shown = ", ".join(visible(nodeid) for nodeid in nodeids[:SHOWN_STALE])
    more = f" and {len(nodeids) - SHOWN_STALE} more" * (len(nodeids) > SHOWN_STALE)
    return f"tests that {what}: {shown}{more}; {advice}"
