"""What a piece of work needs: frozen values in bytes that add up.

The field names of `Breakdown` and `Peak` are the words used in messages, JSON and documents.
`None` always means "not known", never zero.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

Metric = Literal["requested", "allocated", "reserved", "device"]
METRICS: tuple[Metric, ...] = ("requested", "allocated", "reserved", "device")


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """A requirement by what holds it; the words from `buffers` on are together called alpha."""

    parameters_bytes: int | None = None
    gradients_bytes: int | None = None
    optimizer_states_bytes: int | None = None
    activations_bytes: int | None = None
    buffers_bytes: int | None = None
    inputs_bytes: int | None = None
    temporaries_bytes: int | None = None
    workspaces_bytes: int | None = None
    context_bytes: int | None = None
    other_bytes: int | None = None

    @property
    def total_bytes(self) -> int:
        """Sum of what is known."""
        return sum(size for _, size in self.items() if size is not None)

    @property
    def allocated_bytes(self) -> int:
        """The same without the context, which no allocator gave out."""
        return self.total_bytes - (self.context_bytes or 0)

    def items(self) -> tuple[tuple[str, int | None], ...]:
        """(word, bytes) in the order of the fields, the word without `_bytes`."""
        return tuple((word, getattr(self, f"{word}_bytes")) for word in WORDS)


WORDS: tuple[str, ...] = tuple(field.name.removesuffix("_bytes") for field in fields(Breakdown))


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """The largest value of each metric over a span of work."""

    requested_bytes: int | None = None
    allocated_bytes: int | None = None
    reserved_bytes: int | None = None
    device_bytes: int | None = None

    def of(self, metric: Metric) -> int | None:
        """Bytes of one metric."""
        size: int | None = getattr(self, f"{metric}_bytes")
        return size

    def less(self, smaller: Peak) -> Peak:
        """What is left of each metric, at least 0; what one side does not know is not known."""
        pairs = {metric: (self.of(metric), smaller.of(metric)) for metric in METRICS}
        return Peak(
            **{
                f"{metric}_bytes": None if a is None or b is None else max(0, a - b)
                for metric, (a, b) in pairs.items()
            }
        )

    def larger(self, other: Peak) -> Peak:
        """The larger of each metric; what only one knows is that one's."""
        pairs = {metric: (self.of(metric), other.of(metric)) for metric in METRICS}
        return Peak(
            **{
                f"{metric}_bytes": max((size for size in pair if size is not None), default=None)
                for metric, pair in pairs.items()
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An allocation that there was no room for, and what was there at that moment.

    Where the device tells only what it would have taken for it, that is `requested_bytes`, and
    `least_bytes` the smallest request that would have; else it is None.
    """

    requested_bytes: int
    allocated_bytes: int
    least_bytes: int | None = None
    reserved_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePeak:
    """The peaks on one of several devices: without what others left there, and with it."""

    index: int
    name: str
    peak: Peak
    absolute_peak: Peak


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One place in the code and all that it had live at a peak, `count` equal blocks together."""

    bytes: int
    category: str
    module: str | None = None
    operator: str | None = None
    source: str | None = None
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Survivor:
    """Tensors that outlived the work that made them, `count` equal ones together.

    `referrers` say who holds them, by name where there is one; `source` is where they were made.
    """

    bytes: int
    shape: tuple[int, ...]
    dtype: str
    source: str | None = None
    referrers: tuple[str, ...] = ()
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """One row of a layer table: the output of a layer for one sample, and its own parameters."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    activation_elements: int
    weight_elements: int
    bias_elements: int

    @property
    def parameter_elements(self) -> int:
        """Weights and biases together."""
        return self.weight_elements + self.bias_elements


@dataclass(frozen=True, slots=True, kw_only=True)
class RankShare:
    """What each of `ranks` equal ranks holds: on its device, and beside it in slower memory.

    `stage` is the pipeline stage of the ranks, from 0.
    """

    breakdown: Breakdown
    stage: int = 0
    ranks: int = 1
    cpu_bytes: int = 0
    nvme_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """Bytes on the device of one such rank."""
        return self.breakdown.total_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """Bytes that a piece of work needs, by formula, with the table it was counted from.

    `ranks` are the shares of all ranks, the one that needs most of its device first: what is said
    of a requirement is said of that rank. `parameter_elements` are those of the whole model.
    """

    ranks: tuple[RankShare, ...]
    parameter_elements: int
    layers: tuple[LayerRow, ...] = ()

    @property
    def breakdown(self) -> Breakdown:
        """Of the worst rank's device; there is one rank where nothing is parallel."""
        return self.ranks[0].breakdown

    @property
    def total_bytes(self) -> int:
        """Sum of the breakdown; what the breakdown has as None is not in it."""
        return self.breakdown.total_bytes

    @property
    def cpu_bytes(self) -> int:
        """Bytes in the memory of the host, for the worst rank."""
        return self.ranks[0].cpu_bytes

    @property
    def nvme_bytes(self) -> int:
        """Bytes on NVMe drives, for the worst rank."""
        return self.ranks[0].nvme_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a span of work did, beside how much it needed: what hints go by.

    `peak_phase` is the phase that the peak of `allocated` was in, `phases` all that there were.
    `recorded_operations` is how many operations autograd recorded. The bytes are of what was live
    at that peak: made in modules while autograd was recording; of that, made by forward calls of
    `earlier_calls` whose step was over, in `earlier_modules` modules; gradients that were there
    before the phase began. `zeroed_bytes` are those of gradients that were set to zero in place.
    """

    peak_phase: str | None = None
    phases: tuple[str, ...] = ()
    recorded_operations: int = 0
    recorded_bytes: int = 0
    earlier_calls: int = 0
    earlier_modules: int = 0
    earlier_bytes: int = 0
    old_gradients_bytes: int = 0
    zeroed_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What simulating or measuring a span of work found out.

    `peak` is without what others left, `absolute_peak` with it; of several `devices` it is the
    largest of each metric. `held_bytes` were alive when the test started, before its setup;
    `held_by` says who made what of it is neither the test's nor its fixtures'. `fixtures_bytes` is
    what its fixtures held when its call began, which is in the peak. `peak_at` says where in the
    work the peak of `allocated` was. `did_allocate` is False where the work never asked the device
    for memory; `refusal` is the last time that there was no room. `unknown` says of metrics why
    their peak is None. `pretended` lists the calls that were answered with a made-up value, as
    `item() at model.py:88`. `timeline` holds (event number, allocated bytes) after each allocation
    and each free, thinned out but for the extremes; it is empty where that is not known.
    """

    peak: Peak
    did_allocate: bool
    absolute_peak: Peak | None = None
    breakdown: Breakdown | None = None
    sites: tuple[Site, ...] = ()
    peak_at: str | None = None
    held_bytes: int | None = None
    held_by: tuple[tuple[str, int], ...] = ()
    fixtures_bytes: int | None = None
    devices: tuple[DevicePeak, ...] = ()
    refusal: Refusal | None = None
    unknown: tuple[tuple[Metric, str], ...] = ()
    pretended: tuple[str, ...] = ()
    work: Work | None = None
    timeline: tuple[tuple[int, int], ...] = ()
    notes: tuple[str, ...] = ()
