"""What is known of a peak of `allocated`, for explaining how it differs from another."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_memreq.gate.baseline import Entry
from pytest_memreq.requirement import Breakdown, Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What was live at a peak of `allocated`, as far as it is known, the largest site first.

    `are_grouped` says that each site is all of its word, module, shape and dtype, as a baseline
    has them; else there may be more of it at other lines. A site's count of 0 is not known.
    """

    total_bytes: int
    breakdown: Breakdown | None = None
    sites: tuple[Site, ...] = ()
    are_grouped: bool = False


def account_of(entry: Entry) -> Account | None:
    """That of a baseline's entry, None where it does not know the peak of `allocated`."""
    total_bytes = entry.peak.allocated_bytes
    if total_bytes is None:
        return None
    things = sorted(entry.largest.things, key=lambda thing: -thing.bytes)
    sites = tuple(
        Site(
            bytes=thing.bytes,
            category=thing.category,
            module=thing.module,
            shape=thing.shape,
            dtype=thing.dtype,
            count=0,
        )
        for thing in things
    )
    return Account(
        total_bytes=total_bytes, breakdown=entry.breakdown, sites=sites, are_grouped=True
    )
