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
    """Events of a kernel, put together in order; requests are freed by the numbers they got."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._requests = 0

    def take(self, *sizes: int) -> list[int]:
        """Request these, and give their numbers."""
        first = self._requests
        self._events += sizes
        self._requests += len(sizes)
        return list(range(first, self._requests))

    def free(self, requests: Sequence[int]) -> None:
        """Give requests back, in this order."""
        self._events += (~request for request in requests)

    def run(self, *sizes: int) -> None:
        """Request all of these, and give them back at once, the last one first."""
        self.free(self.take(*sizes)[::-1])

    def add(self, events: Sequence[Event]) -> None:
        """Events of their own: what they free counts within them."""
        first = self._requests
        for event in events:
            if event is not None and event < 0:
                self._events.append(~(~event + first))
            else:
                self._events.append(event)
                self._requests += event is not None

    def results(self, count: int = 1) -> None:
        """The operator's next results are allocated."""
        self._events += [RESULT] * count

    def scratch(self, result_bytes: int | None = None) -> Scratch | None:
        """What was put together, None without a request."""
        return Scratch(tuple(self._events), result_bytes) if self._requests else None


Rule = Callable[[Call], Scratch | None]


def after_results(call: Call, *events: int) -> Scratch | None:
    """These events once all results are allocated; None without events."""
    return Scratch((*[RESULT] * len(call.results), *events)) if events else None


def nested(*sizes: int) -> tuple[int, ...]:
    """Requests of these sizes, of which the last one is freed first."""
    return (*sizes, *(~at for at in reversed(range(len(sizes)))))


def copy_bytes(tensor: Tensor) -> int | None:
    """Bytes of a contiguous copy; None for a tensor that is contiguous as it is."""
    return None if tensor.is_contiguous() else tensor.numel() * tensor.element_size()


def copies(*tensors: Tensor) -> tuple[int, ...]:
    """Requests for contiguous copies of those that need one."""
    sizes = (copy_bytes(tensor) for tensor in tensors)
    return tuple(size for size in sizes if size is not None)
