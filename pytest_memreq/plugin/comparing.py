"""Figures side by side: one held against a share of another."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_memreq.errors import MemreqError
from pytest_memreq.gate.verdict import figure
from pytest_memreq.plugin.meters import Span
from pytest_memreq.requirement import Finding, Peak, Requirement, Site

Figure = Requirement | Finding | Span | Peak | int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two figures side by side, in bytes of `allocated`; `ratio` is a over b."""

    a_bytes: int
    b_bytes: int

    @property
    def ratio(self) -> float:
        """a over b; infinite where only b is 0."""
        if self.b_bytes == 0:
            return float("inf") if self.a_bytes else 1.0
        return self.a_bytes / self.b_bytes

    @property
    def difference_bytes(self) -> int:
        """a less b."""
        return self.a_bytes - self.b_bytes

    def __str__(self) -> str:
        return f"{figure(self.a_bytes)}, {self.ratio:.2%} of {figure(self.b_bytes)}"


def compare(a: Figure, b: Figure) -> Comparison:
    """By their peaks of allocated."""
    return Comparison(a_bytes=allocated_bytes(a), b_bytes=allocated_bytes(b))


def peak_of(what: Figure) -> Peak:
    """The peak of whatever has one. Raises MemreqError for what has none, or not yet."""
    if isinstance(what, Requirement):
        return Peak(allocated_bytes=what.total_bytes)
    if isinstance(what, Peak):
        return what
    if isinstance(what, Finding):
        return what.peak
    if isinstance(what, Span):
        if what.peak is None:
            raise MemreqError(f"the stretch {what.label!r} is not over yet; ask after its `with`")
        return what.peak
    if isinstance(what, int) and not isinstance(what, bool) and what >= 0:
        return Peak(allocated_bytes=what)
    raise MemreqError(
        f"{what!r} has no peak; give what estimate, simulate or measure returned, or bytes"
    )


def sites_of(what: Figure) -> tuple[Site, ...]:
    """What was live at the peak, where that is known."""
    return what.sites if isinstance(what, Finding) else ()


def allocated_bytes(what: Figure) -> int:
    """The peak of allocated. Raises MemreqError where it is not known."""
    size = peak_of(what).allocated_bytes
    if size is None:
        raise MemreqError(
            f"{what!r} has no known peak of allocated; simulate it, or measure it elsewhere"
        )
    return size
