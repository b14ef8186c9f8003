"""A call of an operator as its rule sees it, and what its kernel takes in the meantime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
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

    @property
    def is_in_backward(self) -> bool:
        """True while autograd runs a node's formula."""
        return torch._C._current_autograd_node() is not None

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


class Events:
    """Events put together one after the other; a request is freed by the number `take` gave."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._requests = 0

    def take(self, size_bytes: int) -> int:
        """Request so many bytes."""
        self.events.append(size_bytes)
        self._requests += 1
        return self._requests - 1

    def free(self, *requests: int) -> None:
        """Give requests back, in this order."""
        self.events += (~request for request in requests)

    def run(self, *sizes: int) -> None:
        """Request all of these, and give them back at once, the last one first."""
        self.free(*reversed([self.take(size) for size in sizes]))

    def add(self, events: Sequence[Event]) -> None:
        """Events of their own: what they free counts within them."""
        first = self._requests
        for event in events:
            if event is None or event >= 0:
                self.events.append(event)
                self._requests += event is not None
            else:
                self.events.append(~(~event + first))

    def result(self) -> None:
        """The operator's next result is allocated."""
        self.events.append(RESULT)

    def scratch(self) -> Scratch:
        """What was put together."""
        return Scratch(tuple(self.events))


Rule = Callable[[Call], Scratch | None]


def after_results(call: Call, *events: int) -> Scratch | None:
    """These events once all results are allocated; None without events."""
    return Scratch((*[RESULT] * len(call.results), *events)) if events else None


def nested(*sizes: int) -> tuple[int, ...]:
    """Requests of these sizes, of which the last one is freed first."""
    return (*sizes, *(~at for at in reversed(range(len(sizes)))))


def requests_of(events: Sequence[int]) -> tuple[int, ...]:
    """The requests among events that have no results."""
    return tuple(event for event in events if event >= 0)


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
