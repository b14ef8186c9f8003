"""Several ranks as one run: the first waits for what the others found out, and reports for all.

Each of the others leaves a journal in the report directory, and its lock says whether it lives.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from pytest_memreq.errors import MemreqError
from pytest_memreq.plugin.checks import CHECK
from pytest_memreq.plugin.config import Settings
from pytest_memreq.plugin.living import is_stale
from pytest_memreq.plugin.purpose import runs_tests
from pytest_memreq.plugin.ranks import Ranks
from pytest_memreq.plugin.reporting import Reporting
from pytest_memreq.plugin.store import store_of
from pytest_memreq.plugin.waiting import Source, wait_for
from pytest_memreq.reports.files import failure, read_whole
from pytest_memreq.reports.journal import name_of
from pytest_memreq.reports.ranks import RankPart
from pytest_memreq.reports.reading import MAX_REPORT_BYTES
from pytest_memreq.reports.restoring import journals_of_ranks
from pytest_memreq.reports.text import visible

INTERRUPTED = "this run was interrupted before it had ended"


class Speaking:
    """In a rank that is not the first: its journal is there as long as it has something to tell."""

    def __init__(self, config: pytest.Config, reporting: Reporting, ranks: Ranks) -> None:
        self._reporting = reporting
        self._runs_tests = runs_tests(config)
        self._rank = ranks.rank
        self._store = store_of(os.environ)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """From the start: what is not there, or not held, has died."""
        if not self._runs_tests:
            return
        directory = self._reporting.directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._reporting.begin_journal()
        except OSError as error:
            raise pytest.UsageError(visible(str(failure(directory, error)))) from None
        except MemreqError as error:
            raise pytest.UsageError(visible(str(error))) from None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """The first rank waits for nobody where nothing is checked."""
        if not _has_checks(session):
            self._reporting.give_up_journal()
            _remove_empty(self._reporting.directory)
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """Once the journal is whole, send it to the first rank if that is on another machine."""
        try:
            return (yield)
        finally:
            problems = self._reporting.problems
            if self._store is not None and problems.is_ours and self._reporting.has_journal:
                with problems.kept("the first rank"):
                    path = self._reporting.directory / name_of(self._rank)
                    self._store.publish(self._rank, read_whole(path, MAX_REPORT_BYTES))
                problems.fail(session)


class Listening:
    """In the first rank."""

    def __init__(
        self, config: pytest.Config, settings: Settings, reporting: Reporting, ranks: Ranks
    ) -> None:
        self._config = config
        self._reporting = reporting
        self._directory = reporting.directory
        self._is_reported = settings.report
        self._timeout_seconds = settings.rank_timeout
        self._world_size = ranks.world_size
        self._has_checks = False
        self._store = store_of(os.environ)

    def pytest_sessionstart(self) -> None:
        """What ranks of an earlier run left would pass for what those of this one did not."""
        if runs_tests(self._config) and self._directory.is_dir():
            for path in journals_of_ranks(self._directory):
                if is_stale(path):
                    path.unlink(missing_ok=True)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """See whether there is anything to wait for."""
        self._has_checks = _has_checks(session)
        return (yield)

    @pytest.hookimpl(tryfirst=True)  # before anybody asks for the results
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Wait for the others, unless somebody does not want to."""
        problems = self._reporting.problems
        if not (self._has_checks and runs_tests(self._config) and problems.is_ours):
            return
        is_patient = exitstatus != pytest.ExitCode.INTERRUPTED
        with problems.kept("the other ranks"):
            self._reporting.join([*self._heard(is_patient=is_patient)])
        problems.fail(session)

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        """Where the reports say it all, or nobody asked for any, the journals can go."""
        if not self._has_checks or not self._reporting.problems.is_ours:
            return
        if not (self._is_reported and self._reporting.has_journal):
            with contextlib.suppress(OSError):
                for rank in range(1, self._world_size):
                    (self._directory / name_of(rank)).unlink(missing_ok=True)
            _remove_empty(self._directory)

    def _heard(self, *, is_patient: bool) -> Iterator[RankPart]:
        ranks = range(1, self._world_size)
        sources = [Source(r, self._directory / name_of(r), self._store) for r in ranks]
        seconds = self._timeout_seconds if is_patient else 0
        reasons = wait_for(sources, seconds, self._tell)
        for source in sources:
            why = reasons[source.rank]
            yield source.part(why if is_patient or not why else INTERRUPTED)

    def _tell(self, ranks: list[int]) -> None:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            who = ", ".join(map(str, ranks[:8])) + ", ..." * (len(ranks) > 8)
            reporter.write_line(
                f"memreq: waits for rank {who}, {self._timeout_seconds} s after its last word"
            )


def _has_checks(session: pytest.Session) -> bool:
    return any(CHECK in item.stash for item in session.items)


def _remove_empty(directory: Path) -> None:
    with contextlib.suppress(OSError):
        directory.rmdir()
