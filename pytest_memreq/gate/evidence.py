"""Evidence of known causes: a line from the figures where it is in them, else None."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable

from pytest_memreq.gate.verdict import figure
from pytest_memreq.requirement import Finding, Site
from pytest_memreq.units import format_size

# Less of the peak is not worth a reader's time.
LEAST_SHARE = 0.1
LEAST_BYTES = 2**20
HALVES = ("float16", "bfloat16")
LOSSES = (
    "aten._log_softmax",
    "aten._log_softmax_backward_data",
    "aten.nll_loss_forward",
    "aten.nll_loss_backward",
)
# torch's own attention by products alone takes this softmax; attention written by hand does not.
MATH_ATTENTION = "aten._safe_softmax"
FOREACH = "aten._foreach_"
MOST_CACHED_SHARE = 0.25
SEGMENTS_BYTES = 64 * 2**20


def recorded(finding: Finding) -> str | None:
    """What autograd kept although nothing called backward."""
    work = finding.work
    if work is None or "backward" in work.phases or not work.recorded_operations:
        return None
    if not _is_large(finding, work.recorded_bytes):
        return None
    return (
        f"{_share(finding, work.recorded_bytes)} was made in modules while autograd recorded "
        f"{work.recorded_operations:,} operations, and nothing called backward"
    )


def kept_graph(finding: Finding) -> str | None:
    """What is within the model and still there from a step that is over."""
    work = finding.work
    if work is None or not _is_large(finding, work.earlier_bytes):
        return None
    # A prediction that is kept is of one module; a graph keeps what is within the model. Two calls
    # before one backward are usual (pairs, critics), so without any it takes a third.
    if work.earlier_modules < 2 or (work.earlier_calls < 2 and "backward" not in work.phases):
        return None
    return (
        f"{_share(finding, work.earlier_bytes)} is still there from "
        f"{_count(work.earlier_calls, 'earlier forward call')}, in {work.earlier_modules} modules"
    )


def float32_logits(finding: Finding) -> str | None:
    """Logits in float32, of a model that computes in 16 bits."""
    wide = {
        site.shape[-1]
        for site in finding.sites
        if site.operator in LOSSES and site.dtype == "float32" and site.shape
    }
    halves = [site for site in finding.sites if site.dtype in HALVES and site.shape]
    sites = [
        site
        for site in finding.sites
        if site.dtype == "float32" and site.shape and site.shape[-1] in wide
        and _as_a_half(site, halves)
    ]  # fmt: skip
    size = _bytes(sites)
    if not _is_large(finding, size):
        return None
    largest = max(sites, key=lambda site: site.bytes)
    return (
        f"{_share(finding, size)} is logits and their gradients in float32, {largest.shape} each, "
        f"of a model that computes in {_half_of(halves)}"
    )


def foreach(finding: Finding) -> str | None:
    """Temporaries of an optimizer that updates all parameters at once."""
    if finding.work is None or finding.work.peak_phase != "optimizer":
        return None
    sites = [
        site
        for site in finding.sites
        if site.category == "temporaries" and (site.operator or "").startswith(FOREACH)
    ]
    if not _is_large(finding, _bytes(sites)):
        return None
    return (
        f"{_share(finding, _bytes(sites))} is temporaries of the optimizer, which updates all "
        "parameters at once, and the peak is in its step"
    )


def kept_gradients(finding: Finding) -> str | None:
    """Gradients of the step before, set to zero in place."""
    work = finding.work
    if work is None or not work.zeroed_bytes or work.peak_phase == "optimizer":
        return None
    if not _is_large(finding, work.old_gradients_bytes):
        return None
    return (
        f"{_share(finding, work.old_gradients_bytes)} is gradients from before the "
        f"{work.peak_phase} phase that the peak is in; "
        f"{format_size(work.zeroed_bytes)} of gradients were set to zero instead of freed"
    )


def weights_twice(finding: Finding) -> str | None:
    """A second set of the weights."""
    weights = _by_kind(finding.sites, _is_parameter)
    copies = _by_kind(finding.sites, _came_beside)
    each = {(s.shape, s.dtype): s.bytes // s.count for s in finding.sites if _is_parameter(s)}
    size = sum(min(count, copies[kind]) * each[kind] for kind, count in weights.items())
    total = sum(count * each[kind] for kind, count in weights.items())
    if not _is_large(finding, size) or size < total / 2:
        return None
    return (
        f"{_share(finding, size)} is tensors outside of all modules with the shapes and dtypes of "
        f"{size / total:.0%} of the parameters"
    )


def math_attention(finding: Finding) -> str | None:
    """Matrices of scores of torch's own attention."""
    softmaxes = [site for site in finding.sites if site.operator == MATH_ATTENTION]
    shapes = {site.shape for site in softmaxes}
    sites = [site for site in finding.sites if site.shape in shapes]
    if not softmaxes or not _is_large(finding, _bytes(sites)):
        return None
    largest = max(softmaxes, key=lambda site: site.bytes)
    where = f" in {largest.module}" if largest.module else ""
    source = f" at {largest.source}" if largest.source else ""
    return (
        f"{_share(finding, _bytes(sites))} is whole matrices of attention scores{where}{source}, "
        f"{largest.shape}: scaled_dot_product_attention took its math kernel"
    )


def fragmented(finding: Finding) -> str | None:
    """Segments that hold nothing."""
    allocated, reserved = finding.peak.allocated_bytes, finding.peak.reserved_bytes
    if not allocated or reserved is None:
        return None
    idle = reserved - allocated
    if idle < SEGMENTS_BYTES or idle < MOST_CACHED_SHARE * reserved:
        return None
    return (
        f"{figure(idle)} more are reserved at most ({format_size(reserved)}) than allocated at "
        f"most ({format_size(allocated)})"
    )


def left_by_tests(finding: Finding) -> str | None:
    """What other tests left, which is not in the peak."""
    tests = [(who, size) for who, size in finding.held_by if _is_test(who)]
    size = sum(size for _, size in tests)
    absolute = finding.absolute_peak or finding.peak
    if size < max(LEAST_BYTES, LEAST_SHARE * (absolute.allocated_bytes or 0)):
        return None
    who, most = max(tests, key=lambda pair: pair[1])
    more = f" and {_count(len(tests) - 1, 'more test')}" if len(tests) > 1 else ""
    return (
        f"{figure(size)} beside the peak were left by other tests: {format_size(most)} by "
        f"{who}{more}"
    )


def _is_large(finding: Finding, size: int) -> bool:
    peak_bytes = finding.peak.allocated_bytes or 0
    return size >= max(LEAST_BYTES, LEAST_SHARE * peak_bytes)


def _share(finding: Finding, size: int) -> str:
    peak_bytes = finding.peak.allocated_bytes or 0
    share = f", {size / peak_bytes:.0%} of the peak," if peak_bytes else ""
    return f"{figure(size)}{share}"


def _bytes(sites: Iterable[Site]) -> int:
    return sum(site.bytes for site in sites)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _as_a_half(site: Site, halves: Iterable[Site]) -> bool:
    """True where the same tensor is there in 16 bits, or the weight that makes it."""
    shape = site.shape or ()
    elements = math.prod(shape)
    return any(
        (math.prod(half.shape or ()) == elements and (half.shape or ())[-1] == shape[-1])
        or (len(half.shape or ()) == 2 and (half.shape or ())[0] == shape[-1])
        for half in halves
    )


def _half_of(halves: Iterable[Site]) -> str:
    sizes = Counter[str]()
    for site in halves:
        sizes[site.dtype or ""] += site.bytes
    return sizes.most_common(1)[0][0]


Kind = tuple[tuple[int, ...], str]


def _by_kind(sites: Iterable[Site], is_meant: Callable[[Site], bool]) -> Counter[Kind]:
    """How many blocks there are of each shape and dtype."""
    kinds = Counter[Kind]()
    for site in sites:
        if is_meant(site) and site.shape is not None and site.dtype is not None:
            kinds[site.shape, site.dtype] += site.count
    return kinds


def _is_parameter(site: Site) -> bool:
    return site.category == "parameters"


def _came_beside(site: Site) -> bool:
    """From the host, or made new, but not a copy of what was on the device, which is on purpose."""
    return site.category == "inputs" and not site.module


def _is_test(who: str) -> bool:
    return "::" in who and not who.startswith("fixture ")
