"""What `torch.cuda` and `torch.accelerator` answer for the pretended card.

Tables of answers: facts of the card, figures of the ledger, and what has nothing to do where
nothing runs (synchronization, random state, streams).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

from pytest_memreq.errors import SimulationError
from pytest_memreq.replacing import Replacement
from pytest_memreq.simulate.cards import Card
from pytest_memreq.simulate.ledger import Ledger
from pytest_memreq.simulate.statistics import statistics_of
from pytest_memreq.simulate.streams import Streams, stream_answers
from pytest_memreq.simulate.workspaces import Workspaces

CUDNN_VERSION = 92000  # of torch 2.13's wheels
NCCL_VERSION = (2, 29, 7)  # of the same

_ASKS = "it asks what only a real device knows"
_POOLS = "segments in pools of your own are not simulated"
NOT_ANSWERED = {
    **dict.fromkeys(
        (
            *("memory_summary", "memory_snapshot", "_snapshot", "_dump_snapshot"),
            *("_record_memory_history", "utilization", "temperature", "power_draw"),
            *("clock_rate", "list_gpu_processes"),
        ),
        _ASKS,
    ),
    "use_mem_pool": _POOLS,
}
EXPORTS = ("export", "export_for_training", "draft_export")
NVTX = ("range_push", "range_pop", "range_start", "range_end", "mark")


def card_answers(card: Card) -> dict[str, Callable[..., Any]]:
    """Answers of `torch.cuda` that depend on the card alone."""
    major, minor = card.compute_capability
    properties = SimpleNamespace(
        name=card.name,
        major=major,
        minor=minor,
        total_memory=card.capacity_bytes,
        multi_processor_count=card.multiprocessors,
        warp_size=32,
        is_integrated=0,
        is_multi_gpu_board=0,
    )
    return {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_name": lambda device=None: card.name,
        "get_device_capability": lambda device=None: card.compute_capability,
        "get_device_properties": lambda device=None: properties,
        "is_bf16_supported": lambda including_emulation=True: major >= 8 or including_emulation,
        "get_arch_list": lambda: [f"sm_{major}{minor}"],
    }


def without_context(fake_tensors: Any) -> Iterator[Replacement]:
    """A fake tensor of `cuda` first makes a context, which takes a driver (up to torch 2.12)."""
    yield from _where_present(fake_tensors, "init_gpu_context", lambda _device: None)


def replacements(
    card: Card, ledger: Ledger, streams: Streams, workspaces: Workspaces
) -> Iterator[Replacement]:
    """Everything of `torch.cuda` and `torch.accelerator` that a pretended device answers."""
    figures = _figures(card, ledger)
    cuda = {**card_answers(card), **figures, **_nothing_to_do(), **stream_answers(streams)}
    for name, answer in cuda.items():
        yield from _where_present(torch.cuda, name, answer)
    for name, answer in figures.items():
        yield from _where_present(torch.cuda.memory, name, answer)
    accelerator = {
        "current_accelerator": lambda check_available=False: torch.device("cuda"),
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device_index": lambda: 0,
        "set_device_index": lambda device=None: None,
        "synchronize": lambda device=None: None,
        "current_stream": cuda["current_stream"],
        "set_stream": cuda["set_stream"],
        **figures,
    }
    for name, answer in accelerator.items():
        yield from _where_present(torch.accelerator, name, answer)
    yield from _where_present(torch._C, "_get_accelerator", lambda check=None: torch.device("cuda"))
    yield torch.cuda.amp.common, "amp_definitely_not_available", lambda: False
    for name, why in NOT_ANSWERED.items():
        yield from _where_present(torch.cuda, name, _refusal(f"torch.cuda.{name}()", why))
        yield from _where_present(torch.cuda.memory, name, _refusal(f"torch.cuda.{name}()", why))
    refuse = _refusal("torch.cuda.MemPool()", _POOLS)
    pool = type("MemPool", (), {"__init__": refuse})  # torch asks what is one
    yield from _where_present(torch.cuda, "MemPool", pool)
    for name in NVTX:
        yield from _where_present(torch.cuda.nvtx, name, lambda *_args, **_kwargs: 0)
    for name in EXPORTS:
        why = "it traces tensors that have a device and no card"
        yield from _where_present(torch.export, name, _refusal(f"torch.export.{name}()", why))
    yield from _where_present(torch, "_use_cudnn_rnn_flatten_weight", lambda: False)
    yield torch.backends.cudnn, "is_available", lambda: True
    yield torch.backends.cudnn, "is_acceptable", lambda tensor: bool(tensor.is_cuda)
    yield torch.backends.cudnn, "version", lambda: CUDNN_VERSION
    yield torch.cuda.nccl, "version", lambda: NCCL_VERSION
    # DataParallel on one card; a build without CUDA lacks it.
    yield torch._C, "_scatter", lambda tensor, *_rest: (tensor,)
    yield torch._C, "_cuda_clearCublasWorkspaces", workspaces.clear


def _refusal(call: str, why: str) -> Callable[..., Any]:
    def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise SimulationError(
            f"{call} cannot be simulated: {why}; measure this test on a device (--memreq measure)"
        )

    return refuse


def _figures(card: Card, ledger: Ledger) -> dict[str, Callable[..., Any]]:
    def live(device: object = None) -> int:
        return ledger.live_bytes

    def peak(device: object = None) -> int:
        return ledger.peak_bytes

    def reserved(device: object = None) -> int:
        return ledger.reserved_bytes

    def peak_reserved(device: object = None) -> int:
        return ledger.peak_reserved_bytes

    def reset(device: object = None) -> None:
        ledger.reset_peak()
        ledger.allocator.reset_peaks()

    return {
        "memory_allocated": live,
        "max_memory_allocated": peak,
        "memory_reserved": reserved,
        "max_memory_reserved": peak_reserved,
        "memory_stats": lambda device=None: statistics_of(ledger),
        "reset_peak_memory_stats": reset,
        "reset_max_memory_allocated": reset,
        "mem_get_info": lambda device=None: (
            card.capacity_bytes - ledger.reserved_bytes - ledger.allocator.settings.context_bytes,
            card.capacity_bytes,
        ),
        "empty_cache": ledger.empty_cache,
    }


def _nothing_to_do() -> dict[str, Callable[..., Any]]:
    def nothing(*_args: Any, **_kwargs: Any) -> None:
        return None

    def state(*_args: Any) -> torch.Tensor:
        return torch.zeros(16, dtype=torch.uint8)

    names = """
        _lazy_init init synchronize set_device set_rng_state set_rng_state_all manual_seed
        manual_seed_all seed seed_all ipc_collect
    """
    return {
        **dict.fromkeys(names.split(), nothing),
        "is_initialized": lambda: True,
        "get_rng_state": state,
        "get_rng_state_all": lambda: [state()],
        "initial_seed": lambda: 0,
    }


def _where_present(module: ModuleType, name: str, answer: Any) -> Iterator[Replacement]:
    # A name that this torch lacks stays absent, so that code asking for it behaves as it would.
    if hasattr(module, name):
        yield module, name, answer
