"""What tests needed before: values, which of them a run is held against, and the verdict."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pytest_memreq.choices import Missing
from pytest_memreq.gate.largest import NOTHING_LISTED, Largest, none_first
from pytest_memreq.gate.tolerance import OF_MEASURED, OF_SIMULATED, Tolerance
from pytest_memreq.gate.verdict import NO_REASONS, Verdict, Word, figure
from pytest_memreq.requirement import METRICS, Breakdown, Metric, Peak
from pytest_memreq.units import format_size

SHOWN_CLASSES = 3
WORST_FIRST: tuple[Word, ...] = ("error", "over", "regressed", "unchecked", "improved", "within")

_MINOR = re.compile(r"([0-9]+)\.([0-9]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceClass:
    """What a figure holds for. `torch` is its minor version, as `2.13`; None is "not known"."""

    mode: str
    gpu: str | None
    torch: str | None
    allocator: str | None = None
    world_size: int = 1

    def is_like(self, other: DeviceClass) -> bool:
        """True where nothing but the version of torch differs."""
        return replace(self, torch=other.torch) == other

    def __str__(self) -> str:
        """One line: `simulated on NVIDIA H200, torch 2.13`."""
        torch = "of unknown version" if self.torch is None else self.torch
        allocator = "" if self.allocator is None else f", allocator {self.allocator}"
        ranks = "" if self.world_size == 1 else f", {self.world_size} ranks"
        return f"{self.mode} on {self.gpu or 'an unknown card'}, torch {torch}{allocator}{ranks}"


def device_class(
    *, mode: str, gpu: str | None, torch: str | None, allocator: str | None, world_size: int
) -> DeviceClass:
    """The class of an environment: `torch` in full, `allocator` as the variable has it."""
    version = _MINOR.match(torch or "")
    return DeviceClass(
        mode=mode,
        gpu=gpu,
        torch=None if version is None else version[0],
        allocator=(allocator or "").strip() or None,
        world_size=world_size,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What a test was held against, and the `verdict` by that alone: None where there was nothing.

    `device` and `peak` are those of the entry, `tolerance` as it is written.
    """

    verdict: Word | None = None
    device: DeviceClass | None = None
    peak: Peak | None = None
    tolerance: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What one test needed on one class of devices; of its peak, at least one metric is known."""

    nodeid: str
    device: DeviceClass
    peak: Peak
    breakdown: Breakdown | None = None
    largest: Largest = NOTHING_LISTED

    @property
    def order(self) -> tuple[Any, ...]:
        """What entries are sorted by; no two of a baseline have the same."""
        on = self.device
        unknown_first = map(none_first, (on.gpu, on.torch, on.allocator))
        return self.nodeid, on.mode, *unknown_first, on.world_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The entry that a test on a device is held against."""

    device: DeviceClass
    entry: Entry

    @property
    def is_exact(self) -> bool:
        """False where the entry is of another version of torch."""
        return self.device == self.entry.device

    @property
    def tolerance(self) -> Tolerance:
        """What holds where nobody said otherwise: the same simulation gives the same byte."""
        is_same = self.is_exact and self.device.mode == "simulated"
        return OF_SIMULATED if is_same else OF_MEASURED

    def __str__(self) -> str:
        """The baseline, and of what it is where that is not what runs."""
        return (
            "the baseline" if self.is_exact else f"the baseline of torch {self.entry.device.torch}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """Entries in order; `baseline_of` makes one."""

    entries: tuple[Entry, ...] = ()

    def of_test(self, nodeid: str) -> tuple[Entry, ...]:
        """A test's entries, for all classes of devices."""
        start = bisect_left(self.entries, nodeid, key=lambda entry: entry.nodeid)
        end = start
        while end < len(self.entries) and self.entries[end].nodeid == nodeid:
            end += 1
        return self.entries[start:end]

    def find(self, nodeid: str, device: DeviceClass) -> Match | None:
        """The entry of the very class, else that of the nearest other version of torch.

        Mode, card, allocator and ranks are always the same: without one of them there is none.
        """
        alike = [entry for entry in self.of_test(nodeid) if entry.device.is_like(device)]
        if not alike:
            return None
        nearest = min(alike, key=lambda entry: _distance(entry.device.torch, device.torch))
        return Match(device=device, entry=nearest)


def baseline_of(entries: Iterable[Entry]) -> Baseline:
    """The entries as a baseline; of two for the same test and class, the later one."""
    by_order = {entry.order: entry for entry in entries}
    return Baseline(entries=tuple(by_order[order] for order in sorted(by_order)))


def judge_baseline(
    peak: Peak,
    match: Match,
    tolerance: Tolerance,
    reasons: Mapping[Metric, str] = NO_REASONS,
) -> Verdict:
    """Hold a peak against its baseline, by every metric that the baseline knows.

    One that the run does not know leaves the verdict `unchecked`, unless another one regressed;
    `reasons` say why it is not known.
    """
    old = {metric: size for metric in METRICS if (size := match.entry.peak.of(metric)) is not None}
    new = {metric: size for metric in old if (size := peak.of(metric)) is not None}
    moved = [metric for metric in new if tolerance.is_exceeded(old[metric], new[metric])]
    above = [metric for metric in moved if new[metric] > old[metric]]
    unknown = [metric for metric in old if metric not in new]
    if above:
        reason = _told(above, old, new, match) + _allowed(tolerance)
        return Verdict(word="regressed", reason=reason)
    if unknown:
        why = "".join(f": {reasons[metric]}" for metric in unknown if metric in reasons)
        text = f"the {' and '.join(unknown)} peak is in {match}, and is not known here{why}"
        return Verdict(word="unchecked", reason=text)
    if moved:
        return Verdict(word="improved", reason=_told(moved, old, new, match))
    return Verdict(word="within", reason=_farthest(old, new, match))


def judge_missing(
    baseline: Baseline, nodeid: str, device: DeviceClass, missing: Missing
) -> Verdict:
    """The verdict on a test that `find` finds nothing for; it never passes unless that was said.

    One that is to be recorded passes, and who records it says so.
    """
    told = "not in the baseline"
    if missing != "fail":
        passed = f"{told} before" if missing == "record" else f"{told}, which is to be ignored"
        return Verdict(word="within", reason=passed, cause="not_in_baseline")
    others = [str(entry.device) for entry in baseline.of_test(nodeid)]
    shown = ", nor comparable: it has " + "; ".join(others[:SHOWN_CLASSES]) if others else ""
    more = f" and {len(others) - SHOWN_CLASSES} more" * (len(others) > SHOWN_CLASSES)
    reason = f"{told} for {device}{shown}{more}; --memreq-update new adds it"
    return Verdict(word="unchecked", reason=reason, cause="not_in_baseline")


def both(budget: Verdict, baseline: Verdict) -> Verdict:
    """One verdict from those on the budget and on the baseline: the worse word.

    Reasons other than that all is well come with it, the worse one first.
    """
    worse, other = sorted((budget, baseline), key=lambda verdict: WORST_FIRST.index(verdict.word))
    is_said = other.word != "within" or worse.word == "within"
    return replace(worse, reason=f"{worse.reason}; {other.reason}") if is_said else worse


def _distance(torch: str | None, wanted: str | None) -> tuple[bool, int, int, int, int]:
    """How far from the wanted version, the newer of two as near ones first."""
    (major, minor), (to_major, to_minor) = map(_version, (torch, wanted))
    is_other = torch != wanted
    return is_other, abs(major - to_major), abs(minor - to_minor), -major, -minor


def _version(torch: str | None) -> tuple[int, int]:
    match = _MINOR.match(torch or "")
    return (0, 0) if match is None else (int(match[1]), int(match[2]))


def _told(
    moved: list[Metric], old: Mapping[Metric, int], new: Mapping[Metric, int], match: Match
) -> str:
    """The metric that limits are on first, whole, and by how much the others moved."""
    first, *others = sorted(moved, key=lambda metric: metric != "allocated")
    also = ", ".join(f"{each} {_moved(old[each], new[each])}" for each in others)
    return (
        f"{first} peak {figure(new[first])} is {_moved(old[first], new[first])} against "
        f"{figure(old[first])} in {match}{f'; {also}' if also else ''}"
    )


def _moved(old_bytes: int, new_bytes: int) -> str:
    moved_bytes = new_bytes - old_bytes
    share = f" ({moved_bytes / old_bytes:+.2%})" if old_bytes else ""
    return f"{moved_bytes:+,} bytes{share}"


def _allowed(tolerance: Tolerance) -> str:
    return f" (tolerance {tolerance})" if tolerance.percent or tolerance.bytes else ""


def _farthest(old: Mapping[Metric, int], new: Mapping[Metric, int], match: Match) -> str:
    metric = max(new, key=lambda metric: abs(new[metric] - old[metric]))
    moved_bytes = new[metric] - old[metric]
    if not moved_bytes:
        return f"as in {match}"
    return f"{metric} peak {format_size(new[metric])}, {moved_bytes:+,} bytes against {match}"
