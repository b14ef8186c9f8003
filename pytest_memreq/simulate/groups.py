"""Process groups on the pretended device: all are torch's fake one, which knows sizes and ranks.

User code makes its groups as ever. `init_process_group` stays torch's own; what it calls to meet
the other ranks, and to make a backend, is answered here. Within `joined` a default group of the
asked size is there from the start, as code under torchrun that was called late would find it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed
from torch._C import _distributed_c10d
from torch._dynamo import trace_rules
from torch.distributed import device_mesh
from torch.distributed import distributed_c10d as c10d

from pytest_memreq.errors import SimulationError
from pytest_memreq.replacing import Replacement, replaced
from pytest_memreq.simulate.exchanges import exchanging
from pytest_memreq.simulate.ranks import Ranks

# What torchrun would set beside the rank, on nodes of one card each: the pretended one.
ONE_CARD = {
    "LOCAL_RANK": "0",
    "LOCAL_WORLD_SIZE": "1",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}
# Devices that a backend's groups take tensors of, as torch's own of that name do.
FAKES = {
    "nccl": "cuda:fake",
    "gloo": "cpu:fake,cuda:fake",
    "undefined": "cpu:fake,cuda:fake",
    "fake": "fake",
}


def fake_backend(backend: str) -> str:
    """The fake backend for what a group was asked to have; SimulationError for unknown ones.

    `backend` is a name, or device:name pairs as init_process_group takes them.
    """
    name = str(backend).lower()
    if name in FAKES:
        return FAKES[name]
    devices = [pair.partition(":") for pair in name.split(",")]
    if all(colon and device and used in FAKES for device, colon, used in devices):
        return ",".join(f"{device}:fake" for device, _, _ in devices)
    raise SimulationError(
        f"a process group with backend={str(backend)!r} cannot be simulated; "
        'write "nccl", "gloo", "cpu:gloo,cuda:nccl" or "fake"'
    )


@contextmanager
def joined(ranks: Ranks | None) -> Iterator[Groups]:
    """Within it the process is that rank, as far as a launcher and torch.distributed say so.

    What groups, meshes and variables the code within made is gone afterwards. Must be entered while
    a device is pretended. With None the code says itself which rank it is.
    """
    had_group, hook = distributed.is_initialized(), sys.excepthook
    groups = Groups(ranks)
    with _launched(ranks), replaced(groups.replacements()), exchanging():
        try:
            if ranks is not None:
                groups.begin()
            yield groups
        finally:
            if distributed.is_initialized() and not had_group:
                c10d.destroy_process_group()
            sys.excepthook = hook  # init_process_group puts one of its own in place
            device_mesh._mesh_resources.mesh_stack.clear()
            _forget_meshes()


@contextmanager
def _launched(ranks: Ranks | None) -> Iterator[None]:
    if ranks is None:
        yield
        return
    variables = {
        "RANK": str(ranks.rank),
        "WORLD_SIZE": str(ranks.world_size),
        "GROUP_RANK": str(ranks.rank),
        **ONE_CARD,
    }
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _forget_meshes() -> None:
    # DTensor remembers by operator and mesh what it decided; meshes name groups, which are gone.
    module = sys.modules.get("torch.distributed.tensor")
    if module is not None:
        remembered = module.DTensor._op_dispatcher.sharding_propagator.propagate_op_sharding
        getattr(remembered, "cache", remembered).cache_clear()
        if hasattr(torch._C, "_clear_DTensor_sharding_propagator_cache"):
            torch._C._clear_DTensor_sharding_propagator_cache()


def _code_of(function: Callable[..., Any]) -> Any:
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function.__code__


_INIT = _code_of(c10d.init_process_group)
_MAKE = c10d._new_process_group_helper
_WORLD = vars(c10d._WorldMeta)["WORLD"]


class Groups:
    """Stands in for the meeting of ranks and for backends, where there is one process."""

    def __init__(self, ranks: Ranks | None = None) -> None:
        self._ranks = ranks
        self._made: Ranks | None = None
        self._unclaimed: Any = None  # the default group that no code of the user's asked for

    def replacements(self) -> Iterator[Replacement]:
        """Everything of torch.distributed that is answered anew."""
        yield c10d, "rendezvous", self._rendezvous
        yield c10d, "_new_process_group_helper", self._new_group
        yield c10d._WorldMeta, "WORLD", property(self._default_group, _WORLD.fset)
        for module in (distributed, c10d):
            yield module, "is_nccl_available", lambda: True
        yield c10d, "_get_default_timeout", lambda _backend: c10d.default_pg_timeout
        # Its map would be made anew, with what is answered here in it.
        yield trace_rules, "clear_lru_cache", lambda: None
        # Its own compares sizes that no other rank has sent.
        yield distributed, "_verify_params_across_processes", lambda *_args: None

    def begin(self) -> None:
        """Make the default group of the asked ranks; SimulationError where there is another."""
        assert self._ranks is not None
        present = _WORLD.fget(c10d.GroupMember)
        if present is not None:
            self._check_present(present)
            return
        c10d.init_process_group(
            store=_distributed_c10d.HashStore(),
            rank=self._ranks.rank,
            world_size=self._ranks.world_size,
        )
        self._unclaimed = _WORLD.fget(c10d.GroupMember)

    def present(self) -> Ranks:
        """The rank that is simulated: the one asked for, else the one the code made itself."""
        if self._ranks is not None:
            return self._ranks
        return self._made or Ranks()

    def _check_present(self, group: Any) -> None:
        ranks = self._ranks
        assert ranks is not None
        if (group.size(), group.rank()) != (ranks.world_size, ranks.rank):
            raise SimulationError(
                f"simulate: this process is rank {group.rank()} of a group of {group.size()} "
                f"already, not {ranks.rank} of {ranks.world_size}; destroy it first "
                "(torch.distributed.destroy_process_group), or leave world_size out"
            )

    def _default_group(self, owner: Any) -> Any:
        # Code that makes the default group itself finds none; all other code finds ours.
        present = _WORLD.fget(owner)
        if present is None or present is not self._unclaimed:
            return present
        if sys._getframe(1).f_code is _INIT and len(c10d._world.pg_map) == 1:
            self._unclaimed = None
            c10d.destroy_process_group()
            return None
        return present

    def _rendezvous(
        self, _url: str, rank: int = -1, world_size: int = -1, **_rest: Any
    ) -> Iterator[Any]:
        if rank < 0:
            rank = _from_environment("RANK", os.environ)
        if world_size < 0:
            world_size = _from_environment("WORLD_SIZE", os.environ)
        yield _distributed_c10d.HashStore(), rank, world_size

    def _new_group(
        self,
        group_size: int,
        group_rank: int,
        global_ranks_in_group: list[int],
        backend: Any,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        fake = c10d.Backend(fake_backend(backend))
        if not global_ranks_in_group:
            self._check_asked(group_size, group_rank)
            self._made = Ranks(world_size=group_size, rank=group_rank)
        kwargs = {**kwargs, "backend_options": None, "device_id": None}
        made = _MAKE(group_size, group_rank, global_ranks_in_group, fake, *args, **kwargs)
        group = made[0]
        if group in c10d._world.pg_map:
            group._set_default_backend(c10d.ProcessGroup.BackendType.CUSTOM)
            # What code asks for the backend of is answered with the one that it gave.
            c10d._world.pg_map[group] = (c10d.Backend(str(backend)), c10d._world.pg_map[group][1])
        return made

    def _check_asked(self, world_size: int, rank: int) -> None:
        ranks = self._ranks
        if ranks is not None and (world_size, rank) != (ranks.world_size, ranks.rank):
            raise SimulationError(
                f"init_process_group asks for rank {rank} of {world_size} where rank "
                f"{ranks.rank} of {ranks.world_size} is simulated; leave both out, or give "
                f"simulate world_size={world_size}, rank={rank}"
            )


def _from_environment(name: str, environment: Mapping[str, str]) -> int:
    value = environment.get(name, "")
    if value.isdecimal() and len(value) < 10:
        return int(value)
    given = repr(value[:40]) if value else "not set"
    raise SimulationError(
        f"init_process_group: {name} is {given}; say which ranks are simulated: "
        "simulate(step, world_size=8, rank=0)"
    )
