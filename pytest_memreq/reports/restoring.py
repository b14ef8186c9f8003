"""The results of a run from what it left in its report directory, whether or not it finished."""

from __future__ import annotations

from pathlib import Path

from pytest_memreq.errors import MemreqError
from pytest_memreq.reports import journal
from pytest_memreq.reports.files import is_absent, is_directory, read_whole
from pytest_memreq.reports.gathering import gathered
from pytest_memreq.reports.reading import MAX_REPORT_BYTES, NAME, read_results
from pytest_memreq.results import Results


def restored(directory: Path) -> Results:
    """What the run's JSON file says; of a run that did not finish, what its journal says.

    Raises MemreqError, in one line that begins with the path, where there is neither, and for what
    cannot be read.
    """
    if not is_directory(directory):
        raise MemreqError(f"{directory}: is no directory of a report")
    report, log = directory / NAME, directory / journal.NAME
    if is_absent(report) and is_absent(log):
        raise MemreqError(f"{directory}: has neither {NAME} nor {journal.NAME}: no run reported")
    written = Results(status="incomplete") if is_absent(report) else read_results(report)
    if written.status == "complete" or is_absent(log):
        return written
    return gathered(journal.events_of(read_whole(log, MAX_REPORT_BYTES), str(log)))
