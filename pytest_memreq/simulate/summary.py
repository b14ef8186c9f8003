"""From a ledger's events to peaks, breakdown, sites and timeline: pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import accumulate

from pytest_memreq.requirement import WORDS, Breakdown, Site
from pytest_memreq.simulate.allocator import OutOfDeviceMemory
from pytest_memreq.simulate.cards import Card
from pytest_memreq.simulate.ledger import Block, Ledger
from pytest_memreq.units import format_size


def peak_of(sizes: Sequence[int]) -> tuple[int, int]:
    """The largest running value, and after how many events it was first reached."""
    at = max(range(len(sizes)), key=sizes.__getitem__)
    return sizes[at], at


def over_time(
    ledger: Ledger, size_of: Callable[[Block], int], start: int = 0, end: int | None = None
) -> list[int]:
    """Sum of `size_of` over the live blocks: at event `start`, and after each one up to `end`."""
    changes = [
        size_of(ledger.blocks[event]) if event >= 0 else -size_of(ledger.blocks[~event])
        for event in ledger.events[:end]
    ]
    opening = sum(size_of(block) for block in ledger.opening)
    return list(accumulate(changes, initial=opening))[start:]


def live_after(ledger: Ledger, events: int) -> tuple[Block, ...]:
    """The blocks live after so many events, oldest first."""
    live = {block.number: block for block in ledger.opening}
    for event in ledger.events[:events]:
        if event >= 0:
            live[event] = ledger.blocks[event]
        else:
            live.pop(~event, None)
    return tuple(live.values())


def category_of(block: Block) -> str:
    """One of the breakdown's words.

    What is recognised (a parameter, a gradient, ...) keeps its word. Else activations are what
    forward work made with autograd recording and left for a later phase; what dies in the phase
    it was born in is a temporary.
    """
    if block.category is not None:
        return block.category
    if block.is_input:
        return "inputs"
    if block.died is not None and block.died.number == block.born.number:
        return "temporaries"
    if block.born.kind == "forward" and block.is_recorded:
        return "activations"
    if block.born.kind == "backward" and block.in_module:
        return "activations"  # recomputed by checkpointing
    return "other"


def break_down(blocks: Iterable[Block]) -> Breakdown:
    """Bytes of blocks by category; a word without a block is 0, for it was looked for."""
    totals = dict.fromkeys((word for word in WORDS if word != "context"), 0)
    for block in blocks:
        totals[category_of(block)] += block.block_bytes
    return Breakdown(**{f"{word}_bytes": total for word, total in totals.items()})


def sites_of(blocks: Iterable[Block]) -> tuple[Site, ...]:
    """Blocks grouped by all that a reader sees of them, largest group first."""
    groups: dict[Site, list[int]] = {}
    for block in blocks:
        site = Site(
            bytes=0,
            category=category_of(block),
            module=block.module or None,
            operator=block.operator,
            source=block.source,
            shape=block.shape,
            dtype=block.dtype,
        )
        groups.setdefault(site, []).append(block.block_bytes)
    sites = [replace(site, bytes=sum(sizes), count=len(sizes)) for site, sizes in groups.items()]
    return tuple(sorted(sites, key=lambda site: -site.bytes))


def describe_place(block: Block) -> str:
    """Where in the work a block was allocated: `backward of layers.3.attn, model.py:88`."""
    module = f" of {block.module}" if block.module else ""
    source = f", {block.source}" if block.source else ""
    return f"{block.born.kind}{module}{source}"


def describe_failure(block: Block, error: OutOfDeviceMemory, card: Card) -> str:
    """What did not fit, where in the work, and what there was."""
    wanted, allocated, reserved, capacity = map(
        format_size,
        (block.requested_bytes, error.allocated_bytes, error.reserved_bytes, error.card_bytes),
    )
    return (
        f"CUDA out of memory (simulated): tried to allocate {wanted} for {block.operator} in "
        f"{describe_place(block)}; {card.name} has {capacity}, {allocated} are allocated and "
        f"{reserved} reserved"
    )


def notes_of(notes: Iterable[str], possible_bytes: int, peak_bytes: int) -> tuple[str, ...]:
    """The notes, and how far the peak could be from what is known."""
    if possible_bytes <= peak_bytes:
        return tuple(notes)
    reach = f"with what is not counted, allocated may reach {format_size(possible_bytes)}"
    return (*notes, reach)


def phases_since(
    phases: Sequence[tuple[int, str]], start: int, end: int
) -> tuple[tuple[int, str], ...]:
    """(event number, kind) where each phase with an event begins, counted from event `start` on."""
    begun = [(max(at, start) - start, kind) for at, kind in phases]
    last = [*(at for at, _ in begun[1:]), end - start]
    spans = [span for span, until in zip(begun, last, strict=True) if until > span[0]]
    changed = [span for n, span in enumerate(spans) if n == 0 or spans[n - 1][1] != span[1]]
    return tuple(changed)
