"""What torch.compile made is run as it was written, and the result says so.

What torch.jit.script makes is run as it was made.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._dynamo import eval_frame, trace_rules
from torch.nn import Module

from pytest_memreq.replacing import Replacement, replaced

COMPILED = (
    "what torch.compile made is simulated as it was written; fused kernels keep and need less or "
    "more than that"
)


def know_torch() -> None:
    """Let torch._dynamo list torch's functions while they are torch's own.

    It does when it is imported, and anew once a process group was made.
    """
    trace_rules.get_torch_obj_rule_map()


@contextmanager
def run_as_written(notes: dict[str, None]) -> Iterator[None]:
    """Within it nothing is compiled; a note is made where something would have been."""
    choose = eval_frame._callback_from_stance

    def choose_and_note(callback: Any) -> Any:
        if callback not in (None, False):  # these are of torch._dynamo.disable
            notes.setdefault(COMPILED)
        return choose(callback)

    with (
        torch.compiler.set_stance("force_eager"),
        replaced(
            [
                (eval_frame, "_callback_from_stance", choose_and_note),
                # Its own warns of global hooks, which are ours.
                (eval_frame.OptimizedModule, "__call__", Module.__call__),
            ]
        ),
    ):
        yield


@contextmanager
def scripted_with(originals: list[Replacement]) -> Iterator[None]:
    """Within it torch.jit.script finds torch's functions to be what `originals` make them.

    It knows none but torch's own. Forward derivatives script what they are made of, when they are
    first asked for.
    """
    script = torch.jit.script

    def script_with_originals(*args: Any, **kwargs: Any) -> Any:
        with replaced([*originals, (torch.jit, "script", script)]):
            return script(*args, **kwargs)

    with replaced([(torch.jit, "script", script_with_originals)]):
        yield
