"""What differs between two peaks, one change each, and its line of text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from pytest_memreq.requirement import Site
from pytest_memreq.units import format_size

# `added` and `removed` are whole modules with all that is within them, under every word.
Kind = Literal["new", "gone", "changed", "added", "removed"]
SHOWN_WORDS = 3
TIMES = {2: "twice", 4: "four times", 8: "eight times"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Bytes more or less than in the base, and of what.

    `base` and `head` are what there was and what there is, summed over the `modules` modules that
    the line is about, whose numbers are then `*` in their name; of a whole module they are its
    largest part. `words` are (category, bytes more or less); `layers` how many numbered ones there
    were and are, where one was added or removed among them.
    """

    bytes: int
    kind: Kind
    base: Site | None = None
    head: Site | None = None
    module: str | None = None
    modules: int = 1
    words: tuple[tuple[str, int], ...] = ()
    layers: tuple[int, int] | None = None

    @property
    def site(self) -> Site | None:
        """What there is now, or what there was where nothing is left."""
        return self.head if self.head is not None else self.base


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlisted:
    """Bytes more or less of one word that two lists of sites do not tell apart.

    One of the lists is bounded: what it lacks may have been left out. `sites` are the largest that
    only the other one has.
    """

    bytes: int
    word: str
    sites: tuple[Site, ...] = ()
    is_base_bounded: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Rename:
    """A part of modules' names that is another now: of `modules` modules, `*` for their numbers."""

    base: str
    head: str
    modules: int = 1


def describe_change(change: Change, base: str = "the baseline") -> str:
    """One line, with the base called `base`.

    `+1.20 GiB activations in layers.3.attn: (8, 16, 2048, 2048) float32 at model.py:88, not in the
    baseline`.
    """
    if change.kind in ("added", "removed"):
        return f"{signed(change.bytes)} {_whole(change, base)}"
    word = change.words[0][0]
    many = f" ({change.modules} modules)" if change.modules > 1 else ""
    where = f" in {change.module}{many}" if change.module else ""
    return f"{signed(change.bytes)} {word}{where}: {_what(change, base)}"


def describe_unlisted(unlisted: Unlisted, base: str = "the baseline") -> str:
    """One line: how much it is, and the largest that may be part of it."""
    text = f"{signed(unlisted.bytes)} {unlisted.word} that the lists of sites do not tell apart"
    if not unlisted.sites:
        return text
    sites = "; ".join(f"{format_size(site.bytes)} {_placed(site)}" for site in unlisted.sites)
    whose = f"not among the sites that {base} lists" if unlisted.is_base_bounded else f"of {base}"
    return f"{text}; {whose}: {sites}"


def describe_rename(rename: Rename) -> str:
    """One line: `layers.*.attn is now layers.*.attention (24 modules)`."""
    many = f" ({rename.modules} modules)" if rename.modules > 1 else ""
    return f"{rename.base} is now {rename.head}{many}"


def signed(size_bytes: int) -> str:
    """A difference for people: `+1.20 GiB`, `-512 B`, `+0 B`."""
    return f"{'-' if size_bytes < 0 else '+'}{format_size(abs(size_bytes))}"


def shape_text(site: Site) -> str:
    """`(8, 1024) float32`, `3 x ` before it for several; what is not known is left out.

    A count of 0 is one that is not known.
    """
    count = f"{site.count} x " if site.count > 1 else ""
    return f"{count}{_plain_shape(site)}"


def _what(change: Change, base: str) -> str:
    site = change.site
    assert site is not None  # only whole modules can do without
    end = {"new": f", not in {base}", "gone": f", only in {base}", "changed": ""}[change.kind]
    source = f" at {site.source}" if site.source else ""
    each = " in each" if 1 < change.modules < site.count else ""
    return f"{_from_to(change)}{each}{source}{end}"


def _from_to(change: Change) -> str:
    was, now = (_one_of(site, change.modules) for site in (change.base, change.head))
    if was is None or now is None:
        return shape_text(now or was or Site(bytes=0, category=""))
    if not (was.count and now.count):
        was, now = replace(was, count=0), replace(now, count=0)
    if (was.shape, was.dtype) == (now.shape, now.dtype):
        return _more_of(was, now)
    if was.shape == now.shape and was.count == now.count:
        plain = shape_text(replace(now, dtype=None))
        return f"{plain} {was.dtype} -> {now.dtype}{_times(was, now)}"
    if was.dtype == now.dtype:
        return f"{shape_text(replace(was, dtype=None))} -> {shape_text(now)}"
    return f"{shape_text(was)} -> {shape_text(now)}"


def _more_of(was: Site, now: Site) -> str:
    if not now.count:
        return f"{shape_text(now)}, {format_size(was.bytes)} -> {format_size(now.bytes)}"
    if was.count != now.count:
        return f"{was.count} -> {shape_text(now)}"
    return f"{shape_text(now)}, in blocks of another size"


def _one_of(site: Site | None, modules: int) -> Site | None:
    """What one of the modules has, where all have the same number of blocks."""
    if site is None or modules == 1 or site.count % modules:
        return site
    return replace(site, bytes=site.bytes // modules, count=site.count // modules)


def _times(was: Site, now: Site) -> str:
    """What the change of dtype does to the bytes, where it is exactly that."""
    large, small = max(was.bytes, now.bytes), min(was.bytes, now.bytes)
    if not small or large % small or large // small not in TIMES:
        return ""
    if now.bytes > was.bytes:
        return f", {TIMES[large // small]} the bytes"
    return f", 1/{large // small} of the bytes"


def _whole(change: Change, base: str) -> str:
    words = ", ".join(f"{word} {signed(size)}" for word, size in change.words[:SHOWN_WORDS])
    more = len(change.words) - SHOWN_WORDS
    site = change.site
    largest = f", the largest {site.category} {_placed(site)}" if site is not None else ""
    which = f"not in {base}" if change.kind == "added" else f"only in {base}"
    return (
        f"in {change.module}{_of_layers(change)}, {which}: {words}"
        f"{f' and {more} more' if more > 0 else ''}{largest}"
    )


def _of_layers(change: Change) -> str:
    if change.layers is None or change.module is None:
        return ""
    were, are = change.layers
    many = f", {change.modules} layers" if change.modules > 1 else ""
    return f"{many} ({are} of them instead of {were})"


def _placed(site: Site) -> str:
    source = f"at {site.source}" if site.source else ""
    return " ".join(filter(None, (site.module, shape_text(site), source)))


def _plain_shape(site: Site) -> str:
    shape = "blocks" if site.shape is None else str(site.shape)
    return f"{shape} {site.dtype}" if site.dtype else shape
