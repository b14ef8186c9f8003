"""What is changed in torch while a device is pretended, and put back after it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from torch.library import Library

from pytest_memreq.replacing import replaced
from pytest_memreq.simulate import autocast, composites, cuda_api, graphs, storage_api, tensor_api
from pytest_memreq.simulate.attribution import Attribution
from pytest_memreq.simulate.cards import Card
from pytest_memreq.simulate.compiled import know_torch, run_as_written, scripted_with
from pytest_memreq.simulate.groups import Groups
from pytest_memreq.simulate.higher_order import taking_functions
from pytest_memreq.simulate.imports import replaced_in
from pytest_memreq.simulate.ledger import Ledger
from pytest_memreq.simulate.moving import moves_as_between_cards
from pytest_memreq.simulate.numbering import Numbering
from pytest_memreq.simulate.streams import Streams
from pytest_memreq.simulate.threads import guarded
from pytest_memreq.simulate.tracer import Tracer
from pytest_memreq.simulate.workspaces import Workspaces

FAKE_TENSORS = "torch._subclasses.fake_tensor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretence:
    """What answers for a card. `notes` hears of what cannot be known."""

    card: Card
    ledger: Ledger
    streams: Streams
    workspaces: Workspaces
    tracer: Tracer
    numbering: Numbering
    attribution: Attribution
    kernels: dict[str, composites.Kernel]
    notes: dict[str, None]


@contextmanager
def installed(pretence: Pretence) -> Iterator[None]:
    """Within it `cuda` is that card."""
    know_torch()
    with ExitStack() as stack:
        answers = cuda_api.replacements(
            pretence.card, pretence.ledger, pretence.streams, pretence.workspaces
        )
        stack.enter_context(replaced(answers))
        changed = replaced(tensor_api.replacements(pretence.tracer))
        stack.enter_context(scripted_with(stack.enter_context(changed)))
        stack.enter_context(replaced(graphs.replacements(pretence.streams, pretence.notes)))
        stack.enter_context(replaced(storage_api.replacements(pretence.tracer)))
        stack.enter_context(replaced(pretence.numbering.replacements()))
        stack.enter_context(replaced(Groups().replacements()))
        stack.enter_context(replaced_in(FAKE_TENSORS, cuda_api.without_context))
        casts = autocast.WeightCasts()
        stack.enter_context(_registered(casts, pretence.kernels))
        stack.enter_context(autocast.on_meta(casts))
        stack.enter_context(moves_as_between_cards(pretence.notes))
        stack.enter_context(run_as_written(pretence.notes))
        stack.enter_context(taking_functions(pretence.notes))
        stack.enter_context(pretence.attribution.following())
        tracer = pretence.tracer
        stack.enter_context(guarded(tracer.storages.is_pretended, tracer.note_elsewhere))
        stack.enter_context(pretence.tracer)
        yield


@contextmanager
def _registered(
    casts: autocast.WeightCasts, kernels: dict[str, composites.Kernel]
) -> Iterator[None]:
    library = Library("aten", "IMPL")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of every kernel that takes a place
            autocast.register(library, casts)
            composites.register(library, kernels)
        yield
    finally:
        library._destroy()
