"""What a ledger says of what the work did: pure functions."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pytest_memreq.requirement import Work
from pytest_memreq.simulate.ledger import Block, Ledger, PhaseKind
from pytest_memreq.simulate.summary import phases_since


def work_of(ledger: Ledger, start: int, live: Sequence[Block], operations: int) -> Work:
    """Of the events from `start` on; `live` was live at the peak, what made the peak last."""
    if not live:
        return Work(recorded_operations=operations)
    numbered = _numbered(ledger)
    peak = live[-1].born
    recorded = [block for block in live if _is_recorded(block)]
    earlier = _of_earlier_calls(recorded, peak.number, numbered)
    return Work(
        peak_phase=peak.kind,
        phases=tuple(kind for _, kind in phases_since(ledger.phases, start, len(ledger.events))),
        recorded_operations=operations,
        recorded_bytes=_bytes(recorded),
        earlier_calls=len({block.call for block in earlier}),
        earlier_modules=len({block.module for block in earlier}),
        earlier_bytes=_bytes(earlier),
        old_gradients_bytes=_bytes(
            [b for b in live if b.category == "gradients" and b.born.number < peak.number]
        ),
        zeroed_bytes=ledger.zeroed_bytes,
    )


def _is_recorded(block: Block) -> bool:
    is_forward = block.born.kind == "forward" and block.in_module
    return is_forward and block.is_recorded and block.category is None


def _numbered(ledger: Ledger) -> list[tuple[int, PhaseKind]]:
    """(number, kind) of the phases since `restart`; numbers go up by one."""
    first = ledger.phase.number - len(ledger.phases) + 1
    return [(first + at, kind) for at, (_, kind) in enumerate(ledger.phases)]


def _of_earlier_calls(
    blocks: Sequence[Block], peak_number: int, phases: Sequence[tuple[int, PhaseKind]]
) -> list[Block]:
    """Made by a forward call before the last one, and by a step before that of the peak.

    An optimizer's step ends a step; without one, a backward; where there is none either, any later
    call does.
    """
    last = max((block.call for block in blocks), default=0)
    kinds = {kind for _, kind in phases}
    ends = [
        number
        for number, kind in phases
        if kind == ("optimizer" if "optimizer" in kinds else "backward")
    ]
    earlier = [block for block in blocks if 0 < block.call < last]
    if "backward" not in kinds:
        return earlier
    return [block for block in earlier if _ended(block, peak_number, ends)]


def _ended(block: Block, peak_number: int, ends: Collection[int]) -> bool:
    return any(block.born.number < number < peak_number for number in ends)


def _bytes(blocks: Sequence[Block]) -> int:
    return sum(block.block_bytes for block in blocks)
