"""Why a peak is another than before: the changes, by word, module and line, that make it up.

Lists of sites may be bounded: a report has the largest hundred, a baseline fewer. What a list lacks
is then known to be absent only if its data alone is larger than the smallest that the list has. All
else is told by the sums of the breakdown alone, as `Unlisted`. Whatever is known, the changes, what
is not listed and `elsewhere_bytes` add up to the change of the total.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pytest_memreq.gate.account import Account
from pytest_memreq.gate.change import (
    Change,
    Rename,
    Unlisted,
    describe_change,
    describe_rename,
    describe_unlisted,
    signed,
)
from pytest_memreq.gate.matching import (
    OF_NO_MODULE,
    Pair,
    grouped,
    least_bytes,
    pair_up,
    renamed,
    with_names,
    without_moved,
)
from pytest_memreq.gate.repeats import renames, repeated, tree_of, whole_modules
from pytest_memreq.requirement import WORDS, Site

SHOWN_CHANGES = 3
SHOWN_UNLISTED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The change of a total, and what makes it up, the largest first.

    `words` are the changes by word, of those that both sides know.
    """

    total_bytes: int
    words: tuple[tuple[str, int], ...] = ()
    changes: tuple[Change, ...] = ()
    unlisted: tuple[Unlisted, ...] = ()
    renames: tuple[Rename, ...] = ()

    @property
    def elsewhere_bytes(self) -> int:
        """What neither changes nor words tell."""
        told = sum(c.bytes for c in self.changes) + sum(u.bytes for u in self.unlisted)
        return self.total_bytes - told

    @property
    def modules(self) -> tuple[tuple[str | None, int], ...]:
        """(module, bytes) over its changes, the largest first; None is outside of all modules."""
        sums = Counter[str | None]()
        for change in self.changes:
            sums[change.module] += change.bytes
        return tuple(sorted(sums.items(), key=lambda pair: (-abs(pair[1]), pair[0] or "")))


def explain(base: Account, head: Account) -> Explanation:
    """What changed from `base` to `head`."""
    was, now = _side(base), _side(head)
    can_tell = was.is_complete and now.is_complete
    names = _renamed(was, now)
    old = with_names(was.groups, names)
    pairs = pair_up(old, now.groups)
    sure, unsure = _sorted_out(pairs, was, now)
    sure = without_moved(sure) if can_tell else sure
    trees = (tree_of(old), tree_of(now.groups))
    whole, sure = whole_modules(sure, *trees) if can_tell else ([], sure)
    changes = [*whole, *repeated(sure)]
    words = _by_word(was, now)
    return Explanation(
        total_bytes=head.total_bytes - base.total_bytes,
        words=_largest_first((word, size) for word, size in words.items() if size),
        changes=tuple(sorted(changes, key=_weight)),
        unlisted=tuple(sorted(_unlisted(words, changes, unsure), key=_weight)),
        renames=renames(names),
    )


def explanation_lines(
    explanation: Explanation, base: str = "the baseline", most: int = SHOWN_CHANGES
) -> tuple[str, ...]:
    """The change by word, the largest `most` changes, and the rest in one; all add up."""
    parts: list[Change | Unlisted] = [*explanation.changes, *explanation.unlisted]
    parts.sort(key=_weight)
    shown, hidden = parts[:most], parts[most:]
    lines = [_sum_line(explanation, base)]
    lines += [_describe(part, base) for part in shown]
    rest = explanation.total_bytes - sum(part.bytes for part in shown)
    if rest or hidden:
        lines.append(f"{signed(rest)} elsewhere{_in_how_many(hidden)}")
    return (*lines, *map(describe_rename, explanation.renames[:most]))


@dataclass(frozen=True, slots=True)
class _Side:
    """One account, grouped, and how far absence can be told from it."""

    account: Account
    groups: tuple[Site, ...]
    is_complete: bool
    complete_words: frozenset[str]
    floor_bytes: int | None  # what is not listed is at most as large; None: nothing is known of it

    def word_bytes(self, word: str) -> int | None:
        """The sum of a word; None where it is not known."""
        known = None
        if self.account.breakdown is not None and word in WORDS:
            known = dict(self.account.breakdown.items())[word]
        if known is None and self.is_complete:
            return sum(site.bytes for site in self.groups if site.category == word)
        return known

    def has_all_of(self, group: Site) -> bool:
        """True where what is listed of a group is all that there is of it."""
        is_grouped = self.account.are_grouped and group.category not in OF_NO_MODULE
        return is_grouped or self.would_list(group)

    def would_list(self, group: Site) -> bool:
        """True where a group that is not listed is surely not there."""
        if self.is_complete or group.category in self.complete_words:
            return True
        return self.floor_bytes is not None and least_bytes(group) > self.floor_bytes


def _side(account: Account) -> _Side:
    sizes = [site.bytes for site in account.sites]
    listed = Counter[str]()
    for site in account.sites:
        listed[site.category] += site.bytes
    known = {} if account.breakdown is None else dict(account.breakdown.items())
    is_sorted = all(a >= b for a, b in pairwise(sizes))
    return _Side(
        account=account,
        groups=tuple(grouped(account.sites)),
        is_complete=sum(sizes) == account.total_bytes,
        complete_words=frozenset(word for word, size in known.items() if size == listed[word]),
        floor_bytes=sizes[-1] if sizes and is_sorted else None,
    )


def _renamed(was: _Side, now: _Side) -> dict[str, str]:
    """Renames among the groups that both sides would list."""
    floors = [side.floor_bytes for side in (was, now) if not side.is_complete]
    if None in floors:
        return {}
    above = max((floor for floor in floors if floor is not None), default=-1)
    return renamed(was.groups, now.groups, above)


def _sorted_out(pairs: Iterable[Pair], was: _Side, now: _Side) -> tuple[list[Pair], list[Pair]]:
    """Pairs that surely changed, and those of which a bounded list lacks a side, perhaps."""
    sure: list[Pair] = []
    unsure: list[Pair] = []
    for pair in pairs:
        for part in [pair] if _is_sure(pair, was, now) else _halves(pair):
            (sure if _is_sure(part, was, now) else unsure).append(part)
    return [pair for pair in sure if pair.bytes], unsure


def _is_sure(pair: Pair, was: _Side, now: _Side) -> bool:
    base, head = pair.base, pair.head
    if base is not None and head is not None and _are_of_a_kind(base, head):
        return pair.bytes == 0 or (was.has_all_of(base) and now.has_all_of(head))
    of_base = base is None or (was.has_all_of(base) and now.would_list(base))
    return of_base and (head is None or (now.has_all_of(head) and was.would_list(head)))


def _are_of_a_kind(base: Site, head: Site) -> bool:
    return (base.shape, base.dtype) == (head.shape, head.dtype)


def _halves(pair: Pair) -> list[Pair]:
    if pair.base is None or pair.head is None or _are_of_a_kind(pair.base, pair.head):
        return [pair]
    return [Pair(pair.base, None), Pair(None, pair.head)]


def _by_word(was: _Side, now: _Side) -> dict[str, int]:
    categories = {site.category: None for side in (was, now) for site in side.groups}
    changes = {}
    for word in dict.fromkeys((*WORDS, *categories)):
        before, after = was.word_bytes(word), now.word_bytes(word)
        # What is explained is `allocated`, and the context is no part of that.
        if word != "context" and before is not None and after is not None:
            changes[word] = after - before
    return changes


def _unlisted(
    words: dict[str, int], changes: Sequence[Change], unsure: Sequence[Pair]
) -> list[Unlisted]:
    told = Counter[str]()
    for change in changes:
        for word, size in change.words:
            told[word] += size
    rests = {word: size - told[word] for word, size in words.items()}
    return [_rest(word, size, unsure) for word, size in rests.items() if size]


def _rest(word: str, size: int, unsure: Sequence[Pair]) -> Unlisted:
    """The rest of a word, with the largest of the side that it grew towards."""
    is_growth = size > 0
    of_word = [
        pair
        for pair in unsure
        if (site := pair.head if is_growth else pair.base) is not None and site.category == word
    ]
    found = sorted(repeated(of_word), key=_weight)
    sites = [change.head if is_growth else change.base for change in found]
    return Unlisted(
        bytes=size,
        word=word,
        sites=tuple(site for site in sites if site is not None)[:SHOWN_UNLISTED],
        is_base_bounded=is_growth,
    )


def _describe(part: Change | Unlisted, base: str) -> str:
    if isinstance(part, Change):
        return describe_change(part, base)
    return describe_unlisted(part, base)


def _sum_line(explanation: Explanation, base: str) -> str:
    words = ", ".join(f"{word} {signed(size)}" for word, size in explanation.words)
    return f"{signed(explanation.total_bytes)} against {base}{f': {words}' if words else ''}"


def _in_how_many(hidden: Sequence[object]) -> str:
    if not hidden:
        return ", which the lists of sites do not tell"
    return f", in {len(hidden)} smaller change{'s' * (len(hidden) > 1)}"


def _weight(part: Change | Unlisted) -> tuple[int, str]:
    name = part.word if isinstance(part, Unlisted) else part.module or ""
    return -abs(part.bytes), name


def _largest_first(pairs: Iterable[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(pairs, key=lambda pair: (-abs(pair[1]), pair[0])))
