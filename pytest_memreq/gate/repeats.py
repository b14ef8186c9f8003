"""Many changes that are one: numbered layers, and whole modules that came or went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_memreq.gate.change import Change, Kind, Rename
from pytest_memreq.gate.matching import Pair, parts_of
from pytest_memreq.requirement import Site


@dataclass(frozen=True, slots=True)
class Tree:
    """The names of modules of one side, each with those it is within."""

    prefixes: frozenset[str]
    numbered: Mapping[str, int]  # how many numbered ones are in a module

    def root_of_the_new(self, module: str) -> str | None:
        """The outermost module around it that this side does not have; None if it has all."""
        return next((name for name in _prefixes(module) if name not in self.prefixes), None)


def tree_of(sites: Iterable[Site]) -> Tree:
    """All modules that the sites name."""
    prefixes = frozenset(name for site in sites if site.module for name in _prefixes(site.module))
    numbered = Counter(_parent(name) for name in prefixes if _is_numbered(name))
    return Tree(prefixes, numbered)


def whole_modules(pairs: Sequence[Pair], base: Tree, head: Tree) -> tuple[list[Change], list[Pair]]:
    """Modules that only one side has, one change each, or each run of layers; and the other pairs.

    A single tensor of a module that is not a numbered one stays a pair: its line says more.
    """
    groups: dict[tuple[Kind, str], dict[str, list[Pair]]] = {}
    for pair in pairs:
        kind, root = _root(pair, base, head)
        if root is not None:
            groups.setdefault((kind, _together(root)), {}).setdefault(root, []).append(pair)
    changes: list[Change] = []
    rolled: set[int] = set()
    for (kind, name), roots in groups.items():
        members = [pair for found in roots.values() for pair in found]
        if len(members) > len(roots) or _is_numbered(name):
            rolled.update(map(id, members))
            changes.append(_whole(kind, name, roots, base, head))
    return changes, [pair for pair in pairs if id(pair) not in rolled]


def repeated(pairs: Iterable[Pair]) -> list[Change]:
    """One change for all pairs that differ only in numbers of their module's name."""
    groups: dict[Hashable, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(_kind_of(pair), []).append(pair)
    return [_merged(group) for group in groups.values()]


def renames(names: Mapping[str, str]) -> tuple[Rename, ...]:
    """Each part that has another name once, whatever numbers it is within and what is within it."""
    counts = Counter(_renamed_part(old, new) for old, new in names.items())
    return tuple(Rename(base=old, head=new, modules=n) for (old, new), n in counts.items())


def starred(module: str) -> str:
    """A module's name with `*` for its numbers."""
    return ".".join("*" if part.isdecimal() else part for part in parts_of(module))


def _prefixes(module: str) -> list[str]:
    parts = parts_of(module)
    return [".".join(parts[: at + 1]) for at in range(len(parts))]


def _renamed_part(old: str, new: str) -> tuple[str, str]:
    was, now = parts_of(starred(old)), parts_of(starred(new))
    other = [at for at, (a, b) in enumerate(zip(was, now, strict=False)) if a != b]
    if len(was) != len(now) or len(other) != 1:
        return starred(old), starred(new)
    end = other[0] + 1
    return ".".join(was[:end]), ".".join(now[:end])


def _parent(module: str) -> str:
    return module.rpartition(".")[0]


def _is_numbered(module: str) -> bool:
    last = module.rpartition(".")[2]
    return last == "*" or last.isdecimal()


def _together(root: str) -> str:
    """What the roots have in common that make one change."""
    return f"{_parent(root)}.*" if _is_numbered(root) else starred(root)


def _root(pair: Pair, base: Tree, head: Tree) -> tuple[Kind, str | None]:
    if pair.base is None and pair.head is not None and pair.head.module:
        return "added", base.root_of_the_new(pair.head.module)
    if pair.head is None and pair.base is not None and pair.base.module:
        return "removed", head.root_of_the_new(pair.base.module)
    return "changed", None


def _whole(
    kind: Kind, name: str, roots: Mapping[str, Sequence[Pair]], base: Tree, head: Tree
) -> Change:
    pairs = [pair for found in roots.values() for pair in found]
    words = Counter[str]()
    for pair in pairs:
        words[(pair.head or pair.base or _NOTHING).category] += pair.bytes
    largest = max((pair.head or pair.base or _NOTHING for pair in pairs), key=lambda s: s.bytes)
    parent = _parent(name)
    layers = (base.numbered.get(parent, 0), head.numbered.get(parent, 0))
    return Change(
        bytes=sum(words.values()),
        kind=kind,
        base=largest if kind == "removed" else None,
        head=largest if kind == "added" else None,
        module=next(iter(roots)) if len(roots) == 1 else name.removeprefix("."),
        modules=len(roots),
        words=tuple(sorted(words.items(), key=lambda pair: (-abs(pair[1]), pair[0]))),
        layers=layers if _is_numbered(name) else None,
    )


_NOTHING = Site(bytes=0, category="")


def _kind_of(pair: Pair) -> Hashable:
    return tuple(
        site and (site.category, starred(site.module or ""), site.shape, site.dtype, site.count)
        for site in (pair.base, pair.head)
    )


def _merged(pairs: Sequence[Pair]) -> Change:
    base, head = _sum([p.base for p in pairs if p.base]), _sum([p.head for p in pairs if p.head])
    kind: Kind = "new" if base is None else "gone" if head is None else "changed"
    site = head or base or _NOTHING
    size = sum(pair.bytes for pair in pairs)
    return Change(
        bytes=size,
        kind=kind,
        base=base,
        head=head,
        module=site.module,
        modules=len(pairs),
        words=((site.category, size),),
    )


def _sum(sites: Sequence[Site]) -> Site | None:
    if len(sites) < 2:
        return sites[0] if sites else None
    return replace(
        sites[0],
        bytes=sum(site.bytes for site in sites),
        module=starred(sites[0].module or "") or None,
        source=_only({site.source for site in sites}),
        count=sum(site.count for site in sites) if all(site.count for site in sites) else 0,
    )


def _only(sources: Collection[str | None]) -> str | None:
    return next(iter(sources)) if len(sources) == 1 else None
