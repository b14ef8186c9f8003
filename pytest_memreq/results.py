"""What was found out: one TestResult a checked test, all of them in Results; and their JSON form.

The same dict travels from an xdist worker to its controller and into `memreq.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from pytest_memreq.gate.baseline import Before, DeviceClass, device_class
from pytest_memreq.gate.hints import Hint
from pytest_memreq.gate.verdict import VERDICT_WORDS, Cause, Word
from pytest_memreq.packing.rooms import Room, Together
from pytest_memreq.requirement import METRICS, Breakdown, DevicePeak, Peak, Site, Survivor
from pytest_memreq.strict_json import to_text

FORMAT = 1
NO_TESTS = '"tests": [],'  # quotes within a string are escaped: it is this key
Mode = Literal["measured", "simulated", "estimated"]
Outcome = Literal["passed", "failed", "skipped", "xfailed", "xpassed"]
RunStatus = Literal["complete", "incomplete"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Where the figures come from; None is "not known", for instance before any test ran."""

    mode: str | None = None
    gpu: str | None = None
    gpu_bytes: int | None = None
    torch: str | None = None
    cuda: str | None = None
    allocator: str | None = None
    world_size: int = 1

    def device_class(
        self, *, mode: str | None = None, gpu: str | None = None, world_size: int | None = None
    ) -> DeviceClass:
        """What figures from here hold for; of another mode, card or number of ranks where given."""
        return device_class(
            mode=mode or self.mode or "",
            gpu=gpu or self.gpu,
            torch=self.torch,
            allocator=self.allocator,
            world_size=world_size or self.world_size,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """What simulating a test said that was measured as well.

    `reason` says why the peak is not all that the test does, where the test did not come through.
    `divergence` has a line a metric that is too far from what was measured, `grew` what changed
    since the simulated entry of the baseline.
    """

    gpu: str
    peak: Peak
    reason: str = ""
    breakdown: Breakdown | None = None
    sites: tuple[Site, ...] = ()
    timeline: tuple[tuple[int, int], ...] = ()
    baseline: Before | None = None
    grew: tuple[str, ...] = ()
    divergence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RankResult:
    """What a test needed on one of the ranks that ran it, and that rank's own verdict."""

    rank: int
    verdict: Word
    reason: str
    outcome: Outcome = "passed"
    gpu: str | None = None
    peak: Peak = field(default_factory=Peak)
    held_bytes: int | None = None
    leaked_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResult:
    """What one checked test needed, and the verdict on it.

    `timeline` is that of `Finding`, with a few hundred points at most. Where several `ranks` ran
    it, the rest is that of the worst of them, but for the peak, which is the largest of each
    metric.
    """

    __test__ = False  # not a class of tests, whatever pytest makes of its name

    nodeid: str
    mode: Mode | None
    gpu: str | None = None
    verdict: Word
    reason: str
    cause: Cause | None = None
    outcome: Outcome = "passed"
    peak: Peak = field(default_factory=Peak)
    peak_at: str | None = None
    simulated: Simulated | None = None
    budget: Mapping[str, int] = field(default_factory=dict)
    breakdown: Breakdown | None = None
    absolute_peak: Peak | None = None
    devices: tuple[DevicePeak, ...] = ()
    unknown: Mapping[str, str] = field(default_factory=dict)
    held_bytes: int | None = None
    held_by: tuple[tuple[str, int], ...] = ()
    fixtures_bytes: int | None = None
    leaked_bytes: int | None = None
    survivors: tuple[Survivor, ...] = ()
    snapshot: str | None = None
    sites: tuple[Site, ...] = ()
    timeline: tuple[tuple[int, int], ...] = ()
    baseline: Before | None = None
    grew: tuple[str, ...] = ()
    hints: tuple[Hint, ...] = ()
    notes: tuple[str, ...] = ()
    duration_seconds: float = 0.0
    file: str | None = None
    line: int | None = None
    ranks: tuple[RankResult, ...] | None = None
    rooms: tuple[Room, ...] = ()

    @property
    def world_size(self) -> int | None:
        """How many ranks ran it, where that is not what the whole run has."""
        return None if self.ranks is None else len(self.ranks)

    @property
    def is_checked(self) -> bool:
        """True where the figures sufficed for a verdict."""
        return self.verdict not in ("unchecked", "error")

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, text and numbers, as `memreq.json` has them."""
        raw = asdict(replace(self, sites=(), timeline=()))  # they are long, and made below
        raw["budget"] = {
            f"{m}_bytes": self.budget[f"{m}_bytes"] for m in METRICS if f"{m}_bytes" in self.budget
        }
        raw["sites"] = [_site_to_dict(site) for site in self.sites]
        raw["timeline"] = [*map(list, self.timeline)]
        raw["notes"] = list(self.notes)
        raw["survivors"] = [_survivor_to_dict(each) for each in self.survivors]
        raw["devices"] = [asdict(device) for device in self.devices]
        raw["held_by"] = [{"who": who, "bytes": size} for who, size in self.held_by]
        raw["grew"] = list(self.grew)
        if self.simulated is not None:
            lists = {name: list(raw["simulated"][name]) for name in ("grew", "divergence")}
            lists["sites"] = [_site_to_dict(site) for site in self.simulated.sites]
            lists["timeline"] = [*map(list, self.simulated.timeline)]
            raw["simulated"] = {**raw["simulated"], **lists}
        raw["hints"] = [asdict(hint) for hint in self.hints]
        raw["ranks"] = None if self.ranks is None else [asdict(each) for each in self.ranks]
        raw["rooms"] = [asdict(room) for room in self.rooms]
        return raw

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> TestResult:
        """The inverse of `to_dict`."""
        broken_down, simulated = raw["breakdown"], raw["simulated"]
        absolute, ranks = raw["absolute_peak"], raw["ranks"]
        return cls(
            **{
                **raw,
                "peak": Peak(**raw["peak"]),
                "simulated": None if simulated is None else _simulated_from_dict(simulated),
                "breakdown": None if broken_down is None else Breakdown(**broken_down),
                "sites": tuple(_site_from_dict(site) for site in raw["sites"]),
                "timeline": tuple((at, size) for at, size in raw["timeline"]),
                "notes": tuple(raw["notes"]),
                "baseline": None if raw["baseline"] is None else _before_from_dict(raw["baseline"]),
                "grew": tuple(raw["grew"]),
                "hints": tuple(Hint(**hint) for hint in raw["hints"]),
                "survivors": tuple(map(_survivor_from_dict, raw["survivors"])),
                "absolute_peak": None if absolute is None else Peak(**absolute),
                "devices": tuple(map(_device_from_dict, raw["devices"])),
                "held_by": tuple((held["who"], held["bytes"]) for held in raw["held_by"]),
                "ranks": None if ranks is None else tuple(map(_rank_from_dict, ranks)),
                "rooms": tuple(Room(**room) for room in raw["rooms"]),
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """A run's results, `incomplete` until its end was reached.

    `running` are the node ids of tests, checked or not, that had begun and not ended; `together`
    has the cards that workers shared.
    """

    tests: tuple[TestResult, ...] = ()
    environment: Environment = field(default_factory=Environment)
    status: RunStatus = "complete"
    running: tuple[str, ...] = ()
    together: tuple[Together, ...] = ()

    def summary(self) -> dict[Word, int]:
        """How many tests had each verdict, every verdict word named."""
        verdicts = [test.verdict for test in self.tests]
        return {word: verdicts.count(word) for word in VERDICT_WORDS}

    def to_dict(self) -> dict[str, Any]:
        """The content of `memreq.json`."""
        return {
            "format": FORMAT,
            "status": self.status,
            "environment": asdict(self.environment),
            "tests": [test.to_dict() for test in self.tests],
            "summary": self.summary(),
            "running": list(self.running),
            "together": [asdict(each) for each in self.together],
        }


def to_json(results: Results) -> str:
    """`memreq.json`: strict JSON; a NaN or infinity raises ValueError instead of being written.

    A test a line, each made by itself: as one object they would take ten times the text's memory.
    """
    around = to_text(
        replace(results, tests=()).to_dict() | {"summary": results.summary()}, indent=1
    )
    before, after = around.split(NO_TESTS, maxsplit=1)
    tests = ",\n  ".join(to_text(test.to_dict()) for test in results.tests)
    within = f"[\n  {tests}\n ]" if tests else "[]"
    return f'{before}"tests": {within},{after}\n'


def _simulated_from_dict(raw: Mapping[str, Any]) -> Simulated:
    breakdown, before = raw["breakdown"], raw["baseline"]
    built = {
        "peak": Peak(**raw["peak"]),
        "breakdown": None if breakdown is None else Breakdown(**breakdown),
        "sites": tuple(_site_from_dict(site) for site in raw["sites"]),
        "timeline": tuple((at, size) for at, size in raw["timeline"]),
        "baseline": None if before is None else _before_from_dict(before),
        "grew": tuple(raw["grew"]),
        "divergence": tuple(raw["divergence"]),
    }
    return Simulated(**{**raw, **built})


def _device_from_dict(raw: Mapping[str, Any]) -> DevicePeak:
    peaks = {key: Peak(**raw[key]) for key in ("peak", "absolute_peak")}
    return DevicePeak(**{**raw, **peaks})


def _rank_from_dict(raw: Mapping[str, Any]) -> RankResult:
    return RankResult(**{**raw, "peak": Peak(**raw["peak"])})


def _before_from_dict(raw: Mapping[str, Any]) -> Before:
    kinds = {"device": DeviceClass, "peak": Peak}
    built = {k: None if raw[k] is None else kind(**raw[k]) for k, kind in kinds.items()}
    return Before(**{**raw, **built})


def _survivor_to_dict(survivor: Survivor) -> dict[str, Any]:
    return {**asdict(survivor), "shape": list(survivor.shape), "referrers": [*survivor.referrers]}


def _survivor_from_dict(raw: Mapping[str, Any]) -> Survivor:
    lists = {"shape": tuple(raw["shape"]), "referrers": tuple(raw["referrers"])}
    return Survivor(**{**raw, **lists})


def _site_to_dict(site: Site) -> dict[str, Any]:
    raw = asdict(site)
    return {**raw, "shape": None if site.shape is None else list(site.shape)}


def _site_from_dict(raw: Mapping[str, Any]) -> Site:
    shape = raw["shape"]
    return Site(**{**raw, "shape": None if shape is None else tuple(shape)})
