"""`isolate=True`: a test in a process of its own, whose reports are taken over from there.

The process is another pytest that runs the one test. Reports come back as pytest-xdist sends them,
as JSON; nothing is unpickled.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_memreq.plugin.checks import CHECK
from pytest_memreq.plugin.housing import NO_ROOM, ROOM, keep, told
from pytest_memreq.plugin.meters import Meters
from pytest_memreq.plugin.purpose import ISOLATED
from pytest_memreq.plugin.wire import annotate, attach
from pytest_memreq.reports.text import visible_lines
from pytest_memreq.results import Environment, TestResult
from pytest_memreq.strict_json import build, parse

if TYPE_CHECKING:
    from typing_extensions import Self

RELAY = "memreq-relay"
LOOK_SECONDS = 0.05
SHOWN_CHARACTERS = 4000
# Options that another plugin needs so that one test in a process of its own does not start more,
# by the plugin's name.
QUIETING = {"xdist": "-n0", "xdist.plugin": "-n0", "_cov": "--no-cov"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The test's node id and file, the file for its reports, and its claim on cards, if any."""

    nodeid: str
    file: str
    reports: str
    claim: str = ""


class Relay:
    """In the process of its own: runs one test, and writes each report where its parent reads."""

    def __init__(self, config: pytest.Config, task: Task) -> None:
        self._config = config
        self._path = Path(task.reports)
        self._nodeid = task.nodeid

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(
        self, items: list[pytest.Item]
    ) -> Generator[None, object, object]:
        """The one test, whichever of its module's others would select tests by their number."""
        wanted = [item for item in items if item.nodeid == self._nodeid]
        outcome = yield
        items[:] = wanted
        return outcome

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A line a report."""
        if report.nodeid != self._nodeid:
            return
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(data) + "\n")


def relay_for(config: pytest.Config) -> Relay | None:
    """The relay of this process, None for one that reports by itself.

    Raises MemreqError where the variable holds something else.
    """
    given = os.environ.pop(ISOLATED, None)  # a pytest that the test starts is another run
    if given is None:
        return None
    task = build(Task, parse(given.encode("utf-8", "replace"), ISOLATED), ISOLATED)
    if task.claim:
        keep(task.claim)
    config.option.xmlpath = None  # the file is the other process's
    # Instead of what the command line or the settings name.
    config.option.pyargs = False
    config.args = [task.file]
    return Relay(config, task)


def is_to_isolate(item: pytest.Item) -> bool:
    """True for a test that asks for it, unless this is the process that it got."""
    check = item.stash.get(CHECK, None)
    is_asked = check is not None and bool(check.budget.isolate) and NO_ROOM not in item.stash
    return is_asked and not item.config.pluginmanager.hasplugin(RELAY)


def run_isolated(item: pytest.Item, meters: Meters) -> None:
    """Run the test elsewhere and report it here, once the driver has its memory back."""
    # On a card that is shared others take and give back memory all the time.
    before_bytes = None if ROOM in item.stash else meters.used_bytes()
    with tempfile.TemporaryDirectory(prefix="memreq-") as directory:
        with start(item, Path(directory)) as child:
            child.process.wait()
        reports = child.reports(item)
    missing = _missing_after_wait(meters, before_bytes)
    if missing:
        for report in reports:
            annotate(report, f"{missing:,} bytes of the card were not back after it ended")
    log(item, reports)


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """Another pytest, which runs the one test, and the files that it writes into."""

    process: subprocess.Popen[bytes]
    path: Path
    output: Path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """An interrupt of this process ends the other's too."""
        self.stop()

    @property
    def status(self) -> int | None:
        """The exit status of its process, None while that runs."""
        return self.process.poll()

    def stop(self) -> bool:
        """Kill the process; True where it still ran."""
        if self.status is not None:
            return False
        self.process.kill()
        self.process.wait()
        return True

    def reports(self, item: pytest.Item) -> list[pytest.TestReport]:
        """A report each phase, the last one ours where its process did not come so far."""
        reports = _reports(item.config, self.path)
        if not any(report.when == "teardown" for report in reports):
            reports.append(_of_crash(item, self.status, self._said()))
        return reports

    def _said(self) -> str:
        said = self.output.read_text(encoding="utf-8", errors="replace").strip()
        return said[-SHOWN_CHARACTERS:]


def start(item: pytest.Item, directory: Path, number: int = 0, **variables: str) -> Child:
    """Start the test in a process of its own, with these variables beside its environment's.

    `number` is the process's among those that run the test at once.
    """
    config = item.config
    given = getattr(config, "workerinput", {}).get("mainargv", [])[1:]
    arguments = given or [str(each) for each in config.invocation_params.args]
    quieting = [o for name, o in QUIETING.items() if config.pluginmanager.hasplugin(name)]
    command = [
        *(sys.executable, "-m", "pytest", f"--rootdir={config.rootpath}"),
        *arguments,
        *quieting,
    ]
    directory.mkdir(exist_ok=True)
    path, output = directory / "reports", directory / "output"
    task = Task(
        nodeid=item.nodeid, file=str(item.path), reports=str(path), claim=told(item, number)
    )
    with output.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603 - this interpreter, and no shell
            command,
            cwd=config.invocation_params.dir,
            env={**os.environ, ISOLATED: json.dumps(asdict(task)), **variables},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    return Child(process=process, path=path, output=output)


def log(item: pytest.Item, reports: Iterable[pytest.TestReport]) -> None:
    """Report a test from elsewhere as if it had run here."""
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)


def _reports(config: pytest.Config, path: Path) -> list[pytest.TestReport]:
    if not path.exists():
        return []
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0]  # the last may be torn
    hook = config.hook.pytest_report_from_serializable
    lines = whole.splitlines()
    return [hook(config=config, data=_with_tuples(json.loads(line))) for line in lines]


def _with_tuples(data: dict[str, Any]) -> dict[str, Any]:
    """JSON has no tuples, and pytest asks for them."""
    pairs = {name: [*map(tuple, data.get(name, ()))] for name in ("sections", "user_properties")}
    reason = data.get("longrepr")
    restored = tuple(reason) if isinstance(reason, list) else reason
    return {**data, **pairs, "location": tuple(data["location"]), "longrepr": restored}


def _of_crash(item: pytest.Item, status: int | None, said: str) -> pytest.TestReport:
    """A report of ours; the test is no less checked for that it has no figures."""
    ending = f"the test's own process ended with {status} before the test did"
    report = pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords={},
        outcome="failed",
        longrepr=f"memreq: {ending}\n{visible_lines(said)}",
        when="call",
    )
    result = TestResult(
        nodeid=item.nodeid, mode=None, verdict="error", reason=ending, outcome="failed"
    )
    attach(report, result, Environment())
    return report


def _missing_after_wait(meters: Meters, before_bytes: int | None) -> int:
    """Bytes that the driver does not have back; it takes its time after a process has ended."""
    if before_bytes is None:
        return 0
    until = time.monotonic() + meters.backends()[0].return_seconds
    while (missing := (meters.used_bytes() or 0) - before_bytes) > 0:
        if time.monotonic() > until:
            return missing
        time.sleep(LOOK_SECONDS)
    return 0
