"""What was live at two peaks, paired: by module and kind, and by what is left of it.

Sites of one word, module, shape and dtype are one group. Groups of both sides are paired in passes,
from "the same in all" to "as many dimensions", so that a tensor that only became larger is that,
and not one that went and another that came.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_memreq.requirement import Site

# Lists come from files that anybody may have written: what no real one has is not looked into.
MOST_PARTS = 40
MOST_SIZES = 25
MOST_NAMESAKES = 2  # the second already says that there is more than one
# A library's workspace belongs to it, not to the module that happened to ask for it first.
OF_NO_MODULE = ("workspaces",)
_BITS = re.compile(r"[0-9]{1,3}")  # of `float32`, `float8_e4m3fn`, `complex64`

Key = tuple[str, str | None, tuple[int, ...] | None, str | None]


@dataclass(frozen=True, slots=True)
class Pair:
    """A group as it was and as it is; None where there is none."""

    base: Site | None
    head: Site | None

    @property
    def bytes(self) -> int:
        """How many more there are."""
        return (self.head.bytes if self.head else 0) - (self.base.bytes if self.base else 0)


def grouped(sites: Iterable[Site]) -> list[Site]:
    """One site a group, with the line of its largest part."""
    groups: dict[Key, list[Site]] = {}
    for site in sites:
        groups.setdefault(_key(site), []).append(site)
    return [_summed(parts) for parts in groups.values()]


def least_bytes(group: Site) -> int:
    """The data of one block of a group: blocks of a kind may be rounded up differently, not below.

    0 where it is not known.
    """
    bits = _BITS.search(group.dtype or "")
    if group.shape is None or (bits is None and group.dtype != "bool"):
        return 0
    if len(group.shape) > MOST_SIZES:
        return 0
    item_bytes = 1 if bits is None else int(bits[0]) // 8
    return min(math.prod(group.shape) * item_bytes, group.bytes // max(1, group.count))


def parts_of(module: str) -> list[str]:
    """The parts of a module's name; those deeper than any real one stay together."""
    return module.split(".", MOST_PARTS)


def pair_up(base: Sequence[Site], head: Sequence[Site]) -> list[Pair]:
    """Every group of both sides, each once."""
    pairs: list[Pair] = []
    left, waiting = list(base), list(head)
    for keys_of in PASSES:
        found, left, waiting = _pass(left, waiting, keys_of)
        pairs += found
    return [*pairs, *(Pair(site, None) for site in left), *(Pair(None, s) for s in waiting)]


def renamed(base: Sequence[Site], head: Sequence[Site], above_bytes: int = -1) -> dict[str, str]:
    """Modules that only one side has, and that are otherwise the same: old names to new ones.

    The same are those that hold the same; or that hold the same but for the first dimension and
    the dtype. Where several do, only names that differ in one part are taken for each other. Only
    groups above a size are looked at.
    """
    names: dict[str, str] = {}
    large_base, large_head = (
        [s for s in side if least_bytes(s) > above_bytes] for side in (base, head)
    )
    only_base, only_head = _only(large_base, head), _only(large_head, base)
    for signature_of in (_exactly, _loosely):
        free_base = {m: sites for m, sites in only_base.items() if m not in names}
        taken = set(names.values())
        free_head = {m: sites for m, sites in only_head.items() if m not in taken}
        candidates = _by_signature(free_head, signature_of)
        for signature, old in _by_signature(free_base, signature_of).items():
            names.update(_same_modules(old, candidates.get(signature, [])))
    return {**_by_the_same_part(names, _only(base, head), _only(head, base)), **names}


def without_moved(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs without what went with one module and came, the same, with another.

    That is so where several modules were renamed at once, and it does not show which to which.
    """
    kept = [pair for pair in pairs if pair.base is not None and pair.head is not None]
    lone = [pair for pair in pairs if pair.base is None or pair.head is None]
    base, head = [p.base for p in pairs if p.base], [p.head for p in pairs if p.head]
    only_base, only_head = _only(base, head), _only(head, base)
    gone = [p.base for p in lone if p.base and (p.base.module or "") in only_base]
    new = [p.head for p in lone if p.head and (p.head.module or "") in only_head]
    found, _, _ = _pass(gone, new, _gone_elsewhere)
    matched = {id(site) for pair in found for site in (pair.base, pair.head)}
    return [*kept, *(p for p in lone if id(p.base or p.head) not in matched)]


def with_names(sites: Iterable[Site], names: Mapping[str, str]) -> list[Site]:
    """The same with modules called by their new names."""
    return [replace(site, module=names.get(site.module or "", site.module)) for site in sites]


def _key(site: Site) -> Key:
    module = None if site.category in OF_NO_MODULE else site.module
    return site.category, module, site.shape, site.dtype


def _summed(parts: Sequence[Site]) -> Site:
    largest = max(parts, key=lambda site: site.bytes)
    category, module, shape, dtype = _key(largest)
    return Site(
        bytes=sum(site.bytes for site in parts),
        category=category,
        module=module,
        source=largest.source,
        shape=shape,
        dtype=dtype,
        count=sum(site.count for site in parts) if all(site.count for site in parts) else 0,
    )


def _whole_key(site: Site) -> list[Hashable]:
    return [(site.category, site.module, site.shape, site.dtype)]


def _but_for_dtype(site: Site) -> list[Hashable]:
    return [(site.category, site.module, site.shape)] if site.shape is not None else []


def _but_for_one_size(site: Site) -> list[Hashable]:
    shape = site.shape or ()
    if len(shape) > MOST_SIZES:
        return []
    return [
        (site.category, site.module, at, *shape[:at], None, *shape[at + 1 :], site.dtype)
        for at in range(len(shape))
    ]


def _as_many_sizes(site: Site) -> list[Hashable]:
    return [(site.category, site.module, len(site.shape or ()), site.dtype)] if site.shape else []


def _as_many_sizes_of_any_dtype(site: Site) -> list[Hashable]:
    return [(site.category, site.module, len(site.shape or ()))] if site.shape else []


def _gone_elsewhere(site: Site) -> list[Hashable]:
    return [(site.category, site.shape, site.dtype, site.bytes)]


PASSES: tuple[Callable[[Site], list[Hashable]], ...] = (
    _whole_key,
    _but_for_dtype,
    _but_for_one_size,
    _as_many_sizes,
    _as_many_sizes_of_any_dtype,
)


def _pass(
    base: Sequence[Site], head: Sequence[Site], keys_of: Callable[[Site], list[Hashable]]
) -> tuple[list[Pair], list[Site], list[Site]]:
    """The pairs with a key in common, the largest first, and what is left of both sides."""
    waiting: dict[Hashable, list[Site]] = {}
    for site in sorted(head, key=lambda site: site.bytes):
        for key in keys_of(site):
            waiting.setdefault(key, []).append(site)
    taken: set[int] = set()
    pairs, left = [], []
    for site in sorted(base, key=lambda site: -site.bytes):
        found = _first_free([waiting.get(key, []) for key in keys_of(site)], taken)
        if found is None:
            left.append(site)
        else:
            taken.add(id(found))
            pairs.append(Pair(site, found))
    return pairs, left, [site for site in head if id(site) not in taken]


def _first_free(rows: Iterable[list[Site]], taken: set[int]) -> Site | None:
    for row in rows:
        while row and id(row[-1]) in taken:
            row.pop()
        if row:
            return row.pop()
    return None


def _only(sites: Sequence[Site], others: Sequence[Site]) -> dict[str, list[Site]]:
    known = {site.module for site in others}
    modules: dict[str, list[Site]] = {}
    for site in sites:
        if site.module and site.module not in known:
            modules.setdefault(site.module, []).append(site)
    return modules


Signature = frozenset[tuple[Hashable, int]]


def _exactly(sites: Sequence[Site]) -> Signature:
    kinds = Counter((s.category, s.shape, s.dtype, s.bytes) for s in sites)
    return frozenset(kinds.items())


def _loosely(sites: Sequence[Site]) -> Signature:
    kinds = Counter((s.category, s.shape and (len(s.shape), *s.shape[1:])) for s in sites)
    return frozenset(kinds.items())


def _by_signature(
    modules: Mapping[str, list[Site]], signature_of: Callable[[Sequence[Site]], Signature]
) -> dict[Signature, list[str]]:
    groups: dict[Signature, list[str]] = {}
    for module, sites in modules.items():
        groups.setdefault(signature_of(sites), []).append(module)
    return groups


def _same_modules(old: Sequence[str], new: Sequence[str]) -> dict[str, str]:
    if len(old) == len(new) == 1:
        return {old[0]: new[0]}
    by_gap: dict[Hashable, list[str]] = {}
    for name in new:
        for gap in _gaps(name):
            by_gap.setdefault(gap, []).append(name)
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in old:
        close = {other for gap in _gaps(name) for other in by_gap.get(gap, [])[:MOST_NAMESAKES]}
        if len(close) == 1 and close.isdisjoint(taken):
            found[name] = close.pop()
            taken.add(found[name])
    return found


def _by_the_same_part(
    names: Mapping[str, str], only_base: Collection[str], only_head: Collection[str]
) -> dict[str, str]:
    """Further modules whose name has a part that other modules were renamed in, in its place."""
    parts: dict[tuple[int, str], str] = {}
    for old, new in names.items():
        was, now = parts_of(old), parts_of(new)
        other = [at for at, (a, b) in enumerate(zip(was, now, strict=False)) if a != b]
        if len(was) == len(now) and len(other) == 1:
            parts[other[0], was[other[0]]] = now[other[0]]
    found: dict[str, str] = {}
    taken = set(names.values())
    for name in only_base:
        split = parts_of(name)
        for at, part in enumerate(split):
            other_name = ".".join([*split[:at], parts.get((at, part), part), *split[at + 1 :]])
            if other_name in only_head and other_name not in taken:
                found.setdefault(name, other_name)
    return found


def _gaps(name: str) -> list[Hashable]:
    """The name with each part but a number left out in turn."""
    parts = parts_of(name)
    return [
        (*parts[:at], None, *parts[at + 1 :])
        for at, part in enumerate(parts)
        if not part.isdecimal()
    ]
