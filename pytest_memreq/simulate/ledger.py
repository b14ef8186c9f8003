"""What was allocated and freed on the pretended device, in order.

The only state a simulation accumulates. It knows sizes and facts about blocks, not tensors; the
tracer writes it, `summary` reads it.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass
from typing import Literal

from pytest_memreq.requirement import Refusal
from pytest_memreq.simulate.allocator import (
    Allocator,
    AllocatorSettings,
    Chunk,
    OutOfDeviceMemory,
)
from pytest_memreq.simulate.allocator.apart import Apart

PhaseKind = Literal["forward", "backward", "optimizer"]


@dataclass(slots=True, kw_only=True)
class Phase:
    """A stretch of forward, backward or optimizer work; a training step has one of each."""

    kind: PhaseKind
    number: int


@dataclass(slots=True, kw_only=True, eq=False)
class Block:
    """One allocation. `category` is set once something is known to be, say, a parameter.

    `block_bytes` is what `allocated` counts for it, known once it is allocated. A block that
    `is_read_elsewhere` was handed to another stream than its own (Tensor.record_stream). `truth` is
    what a comparison is taken to have found, for one that was made by comparing. `call` is the
    call of an outermost module that made it, counted from 1; 0 is outside of all. `resized_from` is
    the size that its storage had at first, where it was resized since, else 0. One that
    `is_gathered` has other ranks' parts of a parameter too, or the gradients that go there.
    """

    number: int
    requested_bytes: int
    operator: str
    module: str
    source: str | None
    shape: tuple[int, ...]
    dtype: str
    born: Phase
    died: Phase | None = None
    is_input: bool = False
    in_module: bool = False
    is_recorded: bool = False  # made while autograd was recording
    category: str | None = None
    stream: int = 0
    is_read_elsewhere: bool = False
    truth: bool | None = None
    call: int = 0
    resized_from: int = 0
    is_gathered: bool = False
    block_bytes: int = 0
    chunk: Chunk | None = None


class Ledger:
    """Allocations and frees since the last `restart`, and the blocks that were live at it.

    An event is a block's number where it was allocated, the number's complement (`~n`) where it
    was freed. `reserved` holds the bytes of all segments after each event.
    """

    def __init__(self, settings: AllocatorSettings) -> None:
        self.allocator = Allocator(settings)
        self.apart = Apart(self.allocator)
        self.phase = Phase(kind="forward", number=0)
        self.live: dict[int, Block] = {}
        self.live_bytes = 0
        self.peak_bytes = 0  # as torch.cuda.max_memory_allocated, which user code may reset
        self.peak_reserved_bytes = 0
        self.possible_peak_bytes = 0
        self.refusal: Refusal | None = None  # the last time that there was no room
        self.zeroed_bytes = 0  # of gradients, in place
        self._count = 0
        self.restart()

    def restart(self) -> None:
        """Forget all events, empty the cache; what is live now was held from before."""
        self.apart.release()
        self.allocator.empty_cache()
        self.opening = tuple(self.live.values())
        self.blocks = dict(self.live)
        self.events: list[int] = []
        self.reserved: list[int] = []
        self.opening_reserved_bytes = self.reserved_bytes
        self.phases: list[tuple[int, PhaseKind]] = [(0, self.phase.kind)]
        self.reset_peak()

    @property
    def reserved_bytes(self) -> int:
        """What the segments hold, as torch.cuda.memory_reserved."""
        return self.allocator.reserved_bytes

    def enter(self, kind: PhaseKind) -> None:
        """Begin a phase unless it is the current one."""
        if self.phase.kind != kind:
            self.phase = Phase(kind=kind, number=self.phase.number + 1)
            self.phases.append((len(self.events), kind))

    @property
    def count(self) -> int:
        """Blocks so far."""
        return self._count

    def next_number(self) -> int:
        """A number no block has had."""
        self._count += 1
        return self._count

    def allocate(self, block: Block) -> None:
        """Record that the block is live from now on; OutOfDeviceMemory if there is no room."""
        if block.requested_bytes:
            block.chunk = self._chunk_for(block)
            block.block_bytes = block.chunk.size_bytes
        self.blocks[block.number] = self.live[block.number] = block
        self._note(block.number)
        self.live_bytes += block.block_bytes
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        self.peak_reserved_bytes = max(self.peak_reserved_bytes, self.reserved_bytes)

    def set_aside(self, numbers: Collection[Hashable]) -> None:
        """Let nothing be put beside these blocks, until the next time."""
        used: dict[Hashable, Chunk] = {
            number: block.chunk for number, block in self.live.items() if block.chunk is not None
        }
        self.apart.set_aside(used, numbers)

    def _chunk_for(self, block: Block) -> Chunk:
        try:
            return self.allocator.allocate(block.requested_bytes, block.stream)
        except OutOfDeviceMemory as error:
            self.refusal = Refusal(
                requested_bytes=error.requested_bytes,
                allocated_bytes=error.allocated_bytes,
                reserved_bytes=error.reserved_bytes,
            )
            raise

    def free(self, block: Block) -> None:
        """Record that the block is gone; a second time changes nothing."""
        if self.live.pop(block.number, None) is None:
            return
        block.died = self.phase
        if block.chunk is not None:
            self.allocator.free(block.chunk, is_read_elsewhere=block.is_read_elsewhere)
            block.chunk = None
        self._note(~block.number)
        self.live_bytes -= block.block_bytes

    def empty_cache(self) -> None:
        """What user code asks for by torch.cuda.empty_cache."""
        self.allocator.empty_cache()

    def note_possible(self, size_bytes: int) -> None:
        """Memory that may be taken now, and given back at once, besides what is live."""
        self.possible_peak_bytes = max(self.possible_peak_bytes, self.live_bytes + size_bytes)

    def forget_possible(self) -> None:
        """The possible peak starts from what is live now; user code has no say in it."""
        self.possible_peak_bytes = self.live_bytes

    def reset_peak(self) -> None:
        """What user code asks for by torch.cuda.reset_peak_memory_stats."""
        self.peak_bytes = self.live_bytes
        self.peak_reserved_bytes = self.reserved_bytes

    def _note(self, event: int) -> None:
        self.events.append(event)
        self.reserved.append(self.reserved_bytes)
