"""Numbers of backward nodes as they are on CUDA, whose backward runs in a thread of its own.

Of the nodes that are ready the engine runs the one with the highest number (CompareNodeTaskTime in
torch/csrc/autograd/engine.h). Each thread counts the nodes that it makes (sequence_number in
ATen/SequenceNumber.cpp), so those of a backward with `create_graph` have numbers of the device's
thread, which began at none, among those of the forward work. On meta tensors one thread makes all.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.autograd.graph import Node

from pytest_memreq.replacing import Replacement

_now = torch._C._autograd._get_sequence_nr
_MADE_AS = "pytest-memreq: made as"  # in a node's metadata: its number when it was made


@dataclass(slots=True)
class _Run:
    """A backward: the numbers of this thread that it took, and how many earlier ones took."""

    first: int
    end: int
    before: int


class Numbering:
    """Follows backwards of one device, and numbers the nodes of a graph just before it is run.

    Graphs without nodes that a backward made are left as they are: all was made in one thread, and
    only the order counts.
    """

    def __init__(self, is_on_device: Callable[[torch.Tensor], bool]) -> None:
        self._is_on_device = is_on_device
        self.restart()

    def restart(self) -> None:
        """Both threads made no node that counts yet."""
        self._base = _now()
        self._runs: list[_Run] = []
        self._firsts: list[int] = []
        self._is_mixed = False
        self._is_running = False

    def replacements(self) -> Iterator[Replacement]:
        """Autograd's way into its engine."""
        run_backward = torch.autograd._engine_run_backward  # type: ignore[attr-defined]  # torch's own

        def numbered(
            outputs: Sequence[Any],
            grads: Any,
            keep_graph: bool,
            create_graph: bool,
            *args: Any,
            **kwargs: Any,
        ) -> Any:
            return self._run(
                outputs,
                create_graph,
                lambda: run_backward(outputs, grads, keep_graph, create_graph, *args, **kwargs),
            )

        yield torch.autograd, "_engine_run_backward", numbered

    def made_as(self, node: Node) -> int:
        """The number that a node was given when it was made."""
        number: int = node._sequence_nr()
        return _metadata(node).get(_MADE_AS, number) if self._is_mixed else number

    def _run(self, outputs: Sequence[Any], create_graph: bool, run: Callable[[], Any]) -> Any:
        if self._is_mixed:
            self._number([_node_of(output) for output in outputs])
        if self._is_running or not any(map(self._runs_on_device, outputs)):
            return run()
        self._is_mixed |= create_graph
        # The node that several roots hang on is made by the thread that asks.
        begun = _Run(_now() + (len(outputs) > 1), 2**63, self._taken)
        self._runs.append(begun)
        self._firsts.append(begun.first)
        self._is_running = True
        try:
            return run()
        finally:
            begun.end = max(begun.first, _now())
            self._is_running = False

    def _runs_on_device(self, output: Any) -> bool:
        # Of an edge of the graph nothing tells; what is simulated is on the device.
        return not isinstance(output, torch.Tensor) or self._is_on_device(output)

    @property
    def _taken(self) -> int:
        last = self._runs[-1] if self._runs else _Run(0, 0, 0)
        return last.before + last.end - last.first

    def _number(self, nodes: list[Node | None]) -> None:
        """Number all that these lead to, once."""
        while nodes:
            node = nodes.pop()
            if node is None or _MADE_AS in _metadata(node):
                continue
            made_as = _metadata(node)[_MADE_AS] = node._sequence_nr()
            if made_as < _now():  # what accumulates gradients has none: it goes before all others
                node._set_sequence_nr(self._on_cuda(made_as))  # type: ignore[attr-defined]  # not in stubs
            nodes.extend(following for following, _ in node.next_functions)

    def _on_cuda(self, number: int) -> int:
        at = bisect_right(self._firsts, number) - 1
        if at < 0:
            return number
        run = self._runs[at]
        if number < run.end:
            return self._base + run.before + number - run.first
        return number - run.before - (run.end - run.first)


def _metadata(node: Node) -> dict[str, int]:
    # A node is another Python object each time that it is looked at; this stays.
    return cast("dict[str, int]", node.metadata)


def _node_of(output: Any) -> Node | None:
    node: Node | None = output.grad_fn if isinstance(output, torch.Tensor) else output.node
    return node
