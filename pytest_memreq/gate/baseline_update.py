"""What a run changes in a baseline: which entries are written, and which are gone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pytest_memreq.choices import Which
from pytest_memreq.errors import MemreqError
from pytest_memreq.gate.baseline import Baseline, DeviceClass, Entry, baseline_of
from pytest_memreq.gate.verdict import VERDICT_WORDS, Word
from pytest_memreq.requirement import METRICS, Peak

CI_VARIABLE = "CI"
# By what the baseline says of a test, None where it says nothing.
WRITES: dict[Which, frozenset[Word | None]] = {
    "new": frozenset({None}),
    "failing": frozenset({None, "regressed", "improved"}),
    "all": frozenset({None, *VERDICT_WORDS}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a test needed in this run, and the verdict of its baseline, None where it has none."""

    entry: Entry
    word: Word | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What a run can say about tests that are gone.

    `files` are the files, as node ids begin with them, of which every test was collected, and those
    that are no longer there; `nodeids` the tests that were collected, whether or not they ran: one
    that `-k` deselects is not gone. `devices` are the classes that tests ran on:
    about others the run says nothing.
    """

    files: frozenset[str] = frozenset()
    nodeids: frozenset[str] = frozenset()
    devices: tuple[DeviceClass, ...] = ()


NOTHING_COVERED = Coverage()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An entry before and after: `old` is None for a new test, `new` for one that is gone.

    Where the old one is of another version of torch, it stays in the baseline beside the new one.
    """

    old: Entry | None
    new: Entry | None

    @property
    def entry(self) -> Entry:
        """The new one, else the old one."""
        entry = self.new or self.old
        assert entry is not None  # a change has a side
        return entry

    @property
    def order(self) -> tuple[Any, ...]:
        """What changes are sorted by."""
        return self.entry.order


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """A baseline after a run, and how it differs from the one before; `kept` entries do not."""

    baseline: Baseline
    changes: tuple[Change, ...] = ()
    kept: int = 0

    @property
    def is_empty(self) -> bool:
        """True where there is nothing to write."""
        return not self.changes


def update(
    baseline: Baseline,
    found: Iterable[Found],
    which: Which,
    coverage: Coverage = NOTHING_COVERED,
) -> Update:
    """Write what the run found, and leave out what is stale.

    `new` writes tests without a baseline, `failing` also those outside their tolerance, on either
    side, `all` every one.
    """
    written = [_change(baseline, each.entry) for each in found if each.word in WRITES[which]]
    gone = [Change(old=entry, new=None) for entry in stale(baseline, coverage)]
    return _applied(baseline, [*written, *gone])


def stale(baseline: Baseline, coverage: Coverage) -> tuple[Entry, ...]:
    """The entries of tests that are gone, for all versions of torch."""
    return tuple(
        entry
        for entry in baseline.entries
        if file_of(entry.nodeid) in coverage.files
        and entry.nodeid not in coverage.nodeids
        and any(entry.device.is_like(device) for device in coverage.devices)
    )


def without(baseline: Baseline, removed: Iterable[Entry]) -> Update:
    """The baseline without some of its entries."""
    return _applied(baseline, [Change(old=entry, new=None) for entry in removed])


def file_of(nodeid: str) -> str:
    """The file that a node id begins with."""
    return nodeid.partition("::")[0]


def check_may_update(variables: Mapping[str, str], *, is_forced: bool) -> None:
    """Raise MemreqError on a CI server, as the environment's variables tell, unless forced.

    There a baseline would be adapted to whatever the run found, and nobody would review it.
    """
    if variables.get(CI_VARIABLE) and not is_forced:
        raise MemreqError(
            f"--memreq-update is refused where {CI_VARIABLE} is set: update the baseline on your "
            "machine and commit it, or give --memreq-update-in-ci as well"
        )


def _change(baseline: Baseline, entry: Entry) -> Change:
    match = baseline.find(entry.nodeid, entry.device)
    if match is None:
        return Change(old=None, new=entry)
    return Change(old=match.entry, new=_filled(entry, match.entry) if match.is_exact else entry)


def _filled(entry: Entry, old: Entry) -> Entry:
    """With what the run did not find out as it was: a metric that goes would not be held again."""
    sizes = {
        f"{metric}_bytes": old.peak.of(metric) if size is None else size
        for metric in METRICS
        for size in (entry.peak.of(metric),)
    }
    filled = replace(entry, peak=Peak(**sizes))
    is_same = entry.peak.allocated_bytes == old.peak.allocated_bytes
    if entry.breakdown is None and is_same:  # it is still that of the peak
        return replace(filled, breakdown=old.breakdown, largest=old.largest)
    return filled


def _applied(baseline: Baseline, changes: Iterable[Change]) -> Update:
    real = sorted(
        (change for change in changes if change.old != change.new),
        key=lambda change: change.order,
    )
    entries = {entry.order: entry for entry in baseline.entries}
    for change in real:
        if change.new is None:
            entries.pop(change.entry.order, None)
        else:
            entries[change.new.order] = change.new
    touched = {change.entry.order for change in real}
    kept = sum(entry.order not in touched for entry in baseline.entries)
    return Update(baseline=baseline_of(entries.values()), changes=tuple(real), kept=kept)
