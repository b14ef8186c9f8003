"""How much, without a device: the user's own step runs on a pretended `cuda` device."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pytest_memreq.errors import SimulationError
from pytest_memreq.resolving import resolver
from pytest_memreq.simulate.cards import DEFAULT_CARD, Card, find_card

# Every run of pytest loads this, and few simulate.
if TYPE_CHECKING:
    from pytest_memreq.simulate.calibration import Calibration
    from pytest_memreq.simulate.simulation import Simulation

__getattr__ = resolver(__name__, {"pytest_memreq.simulate.simulation": ("Simulation",)})


def simulate(
    step: Callable[..., Any],
    *args: Any,
    gpu: str = DEFAULT_CARD,
    allocator: str | None = None,
    capacity: str | int | None = None,
    workspaces: str | None = None,
    world_size: int | None = None,
    rank: int | None = None,
    calibration: Calibration | None = None,
    progress: Callable[[int], object] | None = None,
) -> Simulation:
    """Run `step(*args)` on a pretended card and return what it would have needed there.

    Nothing is computed on the pretended device: its tensors have shapes and no values. `allocator`
    are settings as PYTORCH_CUDA_ALLOC_CONF has them, `workspaces` is for cuBLAS as
    CUBLAS_WORKSPACE_CONFIG has it; `capacity` is a size of memory other than the card's. With
    `calibration`, what is known of a card by measuring it, `device` is simulated too. With
    `world_size` the step is that of one rank of so many, the first unless `rank` says otherwise;
    torch.distributed is there as under a launcher. `progress` is called a few times a second with
    how many operators there were, and ends the step by what it raises. Raises SimulationError where
    the step asks for something that only a real device, or other ranks, could answer, and
    torch.OutOfMemoryError, as the card would, where there is no room.
    """
    from dataclasses import replace

    from pytest_memreq.simulate.device import PretendedDevice  # imports torch
    from pytest_memreq.simulate.groups import joined
    from pytest_memreq.simulate.ranks import ranks_of
    from pytest_memreq.units import parse_size

    ranks = ranks_of(world_size, rank)
    device = PretendedDevice(
        find_card(gpu),
        allocator or "",
        None if capacity is None else parse_size(capacity),
        workspaces or "",
        calibration,
    )
    with device.active(), joined(ranks) as groups:
        device.prepare()
        device.start()
        if progress is not None:
            device.tell(progress)
        step(*args)
        present = groups.present()
        found = device.finding()
        if found.peak.allocated_bytes is None:
            raise SimulationError(dict(found.unknown)["allocated"])
        return replace(found, world_size=present.world_size, rank=present.rank)


__all__ = ["Card", "Simulation", "find_card", "simulate"]
