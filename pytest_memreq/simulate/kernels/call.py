"""A call of an operator as its rule sees it, and what its kernel takes in the meantime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pytest_memreq.simulate.cards import Card

RESULT = None  # among events: the operator's next result is allocated here
Event = int | None


@dataclass(frozen=True, slots=True)
class Call:
    """Arguments and results of one call, on a card."""

    args: Sequence[Any]
    kwargs: dict[str, Any]
    results: Sequence[Tensor]
    card: Card

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument by its place or its name."""
        if position < len(self.args):
            return self.args[position]
        return self.kwargs.get(name, default)


@dataclass(frozen=True, slots=True)
class Scratch:
    """What a kernel allocates and frees, in order.

    A number from 0 on is a request of so many bytes; `~k` frees the k-th of them; RESULT is where
    the next result is allocated. Results that are not among the events come last, requests that
    are not freed go in the order in which they came. `result_bytes` are those of a result that is
    larger than its shape says.
    """

    events: tuple[Event, ...] = ()
    result_bytes: int | None = None


NO_SCRATCH = Scratch()


Rule = Callable[[Call], Scratch | None]


def after_results(call: Call, *events: int) -> Scratch | None:
    """These events once all results are allocated; None without events."""
    return Scratch((*[RESULT] * len(call.results), *events)) if events else None


def nested(*sizes: int) -> tuple[int, ...]:
    """Requests of these sizes, of which the last one is freed first."""
    return (*sizes, *(~at for at in reversed(range(len(sizes)))))


def joined(*parts: Sequence[int]) -> tuple[int, ...]:
    """Events of several parts, one after the other: what is freed counts within its part."""
    events: list[int] = []
    requests = 0
    for part in parts:
        events += (event if event >= 0 else ~(~event + requests) for event in part)
        requests += sum(event >= 0 for event in part)
    return tuple(events)


def copy_bytes(tensor: Tensor) -> int | None:
    """Bytes of a contiguous copy; None for a tensor that is contiguous as it is."""
    return None if tensor.is_contiguous() else tensor.numel() * tensor.element_size()


def copies(*tensors: Tensor) -> tuple[int, ...]:
    """Requests for contiguous copies of those that need one."""
    sizes = (copy_bytes(tensor) for tensor in tensors)
    return tuple(size for size in sizes if size is not None)
