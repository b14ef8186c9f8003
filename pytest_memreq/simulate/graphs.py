"""CUDA graphs on a pretended card: what is captured is run once, out of a pool of its own.

Nothing runs when a graph is replayed: its memory is there already (torch/csrc/cuda/Graph.cpp).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from pytest_memreq.replacing import Replacement
from pytest_memreq.simulate.streams import Streams

Pool = tuple[int, int]

CAPTURED = (
    "what CUDA graphs captured is simulated as work of another stream: reserved may differ, for "
    "its segments are given back when the cache is emptied"
)


def replacements(streams: Streams, notes: dict[str, None]) -> Iterator[Replacement]:
    """What `torch.cuda` has of graphs."""

    def new_pool() -> Pool:
        streams.made += 1
        return 0, streams.made

    class Graph:
        """Stands for `torch.cuda.CUDAGraph`."""

        def __init__(self, *_args: Any, **_kwargs: Any) -> None:
            self._pool: Pool = (0, 0)
            self._outer = 0

        def capture_begin(self, pool: Pool | None = None, **_kwargs: Any) -> None:
            """What is allocated from now on is of the graph's pool."""
            notes.setdefault(CAPTURED)
            self._pool = pool or new_pool()
            self._outer, streams.current = streams.current, self._pool[1]
            streams.is_capturing = True

        def capture_end(self) -> None:
            """Back to the stream that was current."""
            streams.current, streams.is_capturing = self._outer, False

        def pool(self) -> Pool:
            """For other graphs that are to use the same memory."""
            return self._pool

        def _nothing(self, *_args: Any, **_kwargs: Any) -> None:
            return None

        replay = reset = instantiate = enable_debug_mode = debug_dump = _nothing

    def is_capturing() -> bool:
        return streams.is_capturing

    graphs = torch.cuda.graphs
    for owner in (torch.cuda, graphs):
        yield owner, "CUDAGraph", Graph
        yield owner, "graph_pool_handle", new_pool
        yield owner, "is_current_stream_capturing", is_capturing
    yield graphs.graph, "default_capture_stream", None
    yield torch._C, "_host_emptyCache", lambda: None
