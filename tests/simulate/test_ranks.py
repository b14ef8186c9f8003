"""One rank of many: what the user's own code finds, what it needs, what it leaves behind."""

import os
import sys

import pytest
import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.distributed_c10d import init_process_group as imported_early
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, loss_parallel, parallelize_module
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from pytest_memreq import MemreqError, simulate
from pytest_memreq.simulate.versions import torch_version

WIDTH = 512
# torch 2.13 gave it another name.
gather_into_one = getattr(distributed, "all_gather_single", distributed.all_gather_into_tensor)


def seen(make, **ranks):
    """What `make` returns within a simulation."""
    found = []
    simulate(lambda: found.append(make()), **ranks)
    return found[0]


def rank_and_size():
    return distributed.get_rank(), distributed.get_world_size()


def linear():
    return nn.Linear(WIDTH, WIDTH, bias=False, device="cuda")


# The group


def test_a_rank_is_what_was_asked_for():
    assert seen(rank_and_size, world_size=1024, rank=1023) == (1023, 1024)


def test_the_first_rank_is_the_default():
    simulation = simulate(rank_and_size, world_size=4)
    assert (simulation.rank, simulation.world_size) == (0, 4)


def test_one_rank_of_one_is_what_a_simulation_without_ranks_says():
    simulation = simulate(linear)
    assert (simulation.rank, simulation.world_size) == (0, 1)
    assert not seen(distributed.is_initialized)


@pytest.mark.parametrize("backend", [None, "nccl", "gloo", "fake", "cpu:gloo,cuda:nccl"])
@pytest.mark.parametrize("init", [distributed.init_process_group, imported_early])
def test_a_script_makes_its_group_itself(init, backend):
    def script():
        init(backend, init_method=None if backend == "fake" else "env://", **explicit)
        return (*rank_and_size(), distributed.get_backend())

    explicit = {"rank": 3, "world_size": 8} if backend == "fake" else {}
    rank, size, name = seen(script, world_size=8, rank=3)
    assert (rank, size) == (3, 8)
    assert name == (backend or "undefined")


def test_a_script_may_say_its_ranks_alone():
    def script():
        distributed.init_process_group("nccl", rank=2, world_size=16)
        return rank_and_size()

    assert seen(script) == (2, 16)
    simulation = simulate(script)
    assert (simulation.rank, simulation.world_size) == (2, 16)


def test_a_second_group_is_refused_as_ever():
    def script():
        distributed.init_process_group("nccl")
        distributed.init_process_group("nccl")

    with pytest.raises(ValueError, match="twice"):
        simulate(script, world_size=2)


def test_a_group_can_be_made_again_after_it_was_destroyed():
    def script():
        distributed.destroy_process_group()
        assert not distributed.is_initialized()
        distributed.init_process_group("nccl")
        return rank_and_size()

    assert seen(script, world_size=2, rank=1) == (1, 2)


def test_subgroups_know_their_ranks():
    def script():
        group = distributed.new_group([1, 3], backend="nccl")
        return distributed.get_rank(group), distributed.get_world_size(group)

    assert seen(script, world_size=4, rank=3) == (1, 2)
    assert seen(script, world_size=4, rank=0) == (-1, -1)


def test_the_launcher_said_so_in_the_environment():
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR")
    found = seen(lambda: [os.environ[name] for name in names], world_size=8, rank=5)
    assert found == ["5", "8", "0", "1", "127.0.0.1"]


def test_a_mesh_has_the_coordinates_of_the_rank():
    def script():
        mesh = init_device_mesh("cuda", (4, 8), mesh_dim_names=("data", "tensor"))
        return tuple(mesh.get_coordinate()), mesh["tensor"].size()  # a list on torch 2.9

    assert seen(script, world_size=32, rank=19) == ((2, 3), 8)


# Mistakes


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"world_size": 0}, "world_size=0 is no number of ranks"),
        ({"world_size": True}, "world_size=True is no number"),
        ({"world_size": 8, "rank": 8}, "rank=8 is none of 8 ranks; write 0 to 7"),
        ({"world_size": 8, "rank": -1}, "rank=-1 is none of 8"),
        ({"rank": 1}, "rank=1 without world_size"),
    ],
)
def test_a_rank_that_cannot_be_is_refused(given, says):
    with pytest.raises(MemreqError, match=says):
        simulate(rank_and_size, **given)


def a_group_of(**arguments):
    return lambda: distributed.init_process_group(**arguments)


@pytest.mark.parametrize(
    ("step", "says"),
    [
        (
            a_group_of(backend="nccl", world_size=8, rank=0),
            "asks for rank 0 of 8 where rank 0 of 4",
        ),
        (
            a_group_of(backend="nccl", world_size=4, rank=1),
            "asks for rank 1 of 4 where rank 0 of 4",
        ),
        (a_group_of(backend="mpi"), "backend='mpi' cannot be simulated"),
        (lambda: init_device_mesh("cuda", (8,)), "Mesh should not be bigger than default world"),
        (lambda: init_device_mesh("cuda", (3, 2)), "Mesh should not be bigger"),
        (lambda: distributed.recv_object_list([None], src=1), "recv_object_list asks for what"),
    ],
)
def test_a_step_that_does_not_match_says_so_in_a_line(step, says):
    with pytest.raises((MemreqError, RuntimeError), match=says) as raised:
        simulate(step, world_size=4)
    assert len(str(raised.value).splitlines()) == 1


def test_a_script_without_ranks_says_how_to_give_them(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(MemreqError, match=r"RANK is not set; .* simulate\(step, world_size=8"):
        simulate(a_group_of(backend="nccl"))


@pytest.mark.skipif(torch_version() >= (2, 15), reason="torch splits groups of gloo since")
def test_what_only_nccl_can_do_is_refused_on_gloo():
    def script():
        distributed.init_process_group("gloo")
        distributed.split_group(split_ranks=[[0, 1]])

    with pytest.raises(RuntimeError, match="not safe to split"):
        simulate(script, world_size=2)


def test_a_group_of_nccl_takes_no_tensor_of_the_cpu():
    def script():
        distributed.init_process_group("nccl")
        distributed.all_reduce(torch.ones(1))

    with pytest.raises(RuntimeError, match="No backend type associated with device type cpu"):
        simulate(script, world_size=2)


@pytest.fixture
def group_of_two(tmp_path):
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("group_of_two")
def test_a_group_that_is_there_already_is_named_and_left():
    with pytest.raises(MemreqError, match="is rank 0 of a group of 1 already, not 0 of 8"):
        simulate(rank_and_size, world_size=8)
    assert rank_and_size() == (0, 1)
    assert seen(rank_and_size, world_size=1) == (0, 1)
    assert distributed.get_backend() == "gloo"


# What is left


def test_nothing_is_left_for_the_next(monkeypatch):
    monkeypatch.setenv("RANK", "7")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    hook = sys.excepthook

    def script():
        mesh = init_device_mesh("cuda", (2, 2), mesh_dim_names=("data", "tensor"))
        fully_shard(linear(), mesh=mesh["data"])
        os.environ["MASTER_PORT"] = "1"

    for _ in range(2):
        simulate(script, world_size=4, rank=1)
        assert not distributed.is_initialized()
        assert (os.environ["RANK"], os.environ.get("WORLD_SIZE")) == ("7", None)
        assert "MASTER_PORT" not in os.environ
        assert sys.excepthook is hook
        assert not distributed.distributed_c10d._world.pg_map


def test_nothing_is_left_after_an_error():
    def script():
        raise KeyError("mine")

    had_nccl = distributed.is_nccl_available()  # a build for CUDA has it
    with pytest.raises(KeyError, match="mine"):
        simulate(script, world_size=4)
    assert not distributed.is_initialized()
    assert distributed.is_nccl_available() == had_nccl


def test_the_same_rank_needs_the_same_again():
    def step():
        train(fully_shard(linear()))

    first, other, second = (simulate(step, world_size=size, rank=1).peak for size in (8, 4, 8))
    assert first == second != other


def test_meshes_of_before_are_forgotten():
    def step(groups):
        for _ in range(groups):  # those of the mesh then have other names than before
            distributed.new_group([0, 1])
        mesh = init_device_mesh("cuda", (2, 4), mesh_dim_names=("data", "tensor"))["tensor"]
        rows = distribute_tensor(torch.ones(8, 8, device="cuda"), mesh, [Shard(0)])
        meshes.append((rows @ rows.t()).device_mesh.get_group().group_name)
        assert meshes[-1] == mesh.get_group().group_name

    meshes = []
    for groups in (0, 3):
        simulate(step, groups, world_size=8, rank=5)
    assert len(set(meshes)) == 2


# Values


def test_sums_over_ranks_have_no_value_and_say_so():
    def step():
        loss = torch.ones(1, device="cuda")
        distributed.all_reduce(loss)
        assert loss.item() == 0

    assert "item()" in simulate(step, world_size=8).pretended[0]


def test_objects_of_all_ranks_are_this_ones():
    def script():
        found = [None] * 4
        distributed.all_gather_object(found, {"rank": distributed.get_rank()})
        return found

    assert seen(script, world_size=4, rank=2) == [{"rank": 2}] * 4


def test_a_barrier_takes_what_its_tensors_take():
    assert simulate(distributed.barrier, world_size=4).peak.requested_bytes <= 8


def test_a_gathered_list_passes_through_a_tensor_that_holds_it_all():
    def step(make_one_by_one):
        part = torch.empty(1 << 20, device="cuda")
        if make_one_by_one:
            distributed.all_gather([torch.empty_like(part) for _ in range(4)], part)
        else:
            gather_into_one(torch.empty(4 << 20, device="cuda"), part)

    into_one, into_a_list = (
        simulate(step, way, world_size=4).peak.requested_bytes for way in (False, True)
    )
    assert into_a_list - into_one == 16 << 20


def test_asynchronous_work_is_done_and_holds_its_result():
    def script():
        part = torch.ones(2, device="cuda")
        work = distributed.all_reduce(part, async_op=True)
        return work.wait(), work.is_completed(), work.get_future().value()[0] is part

    assert seen(script, world_size=4) == (True, True, True)


# What is held


def train(model, steps=2):
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(steps):
        model(torch.randn(8, WIDTH, device="cuda")).sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_a_shard_is_parameters_and_what_is_gathered_temporaries():
    def step():
        train(fully_shard(nn.Sequential(linear(), linear())))

    ranks = 8
    simulation = simulate(step, world_size=ranks)
    whole = 2 * WIDTH * WIDTH * 4
    assert simulation.breakdown.parameters_bytes == whole // ranks
    assert simulation.breakdown.optimizer_states_bytes == 2 * whole // ranks
    assert simulation.breakdown.temporaries_bytes >= whole
    assert simulation.breakdown.other_bytes == 0


def test_buckets_of_ddp_are_temporaries_and_gradients_stay_gradients():
    def step(**options):
        train(DistributedDataParallel(nn.Sequential(linear(), linear()), **options))

    def buckets(simulation):
        made = [site for site in simulation.sites if site.operator == "aten.empty"]
        return {s.category: s.bytes for s in made if s.category != "parameters"}

    whole = 2 * WIDTH * WIDTH * 4
    apart, views = (
        simulate(lambda o=options: step(**o), world_size=8)
        for options in ({}, {"gradient_as_bucket_view": True})
    )
    assert buckets(apart) == {"temporaries": whole}
    assert buckets(views) == {"gradients": whole}
    assert apart.breakdown.gradients_bytes == whole
    assert apart.breakdown.optimizer_states_bytes == 2 * whole


def test_a_loss_over_a_divided_vocabulary_holds_its_part_of_it():
    """DTensor finds shapes on torch's fake tensors, which the pretended card must let alone."""

    def step(is_divided):
        mesh = init_device_mesh("cuda", (8,))
        head, batch = nn.Linear(64, vocabulary, bias=False, device="cuda"), 4096
        given = torch.randn(batch, 64, device="cuda")
        targets = torch.randint(vocabulary, (batch,), device="cuda")
        if not is_divided:
            functional.cross_entropy(head(given), targets).backward()
            return
        plan = ColwiseParallel(output_layouts=Shard(-1), use_local_output=False)
        parallelize_module(head, mesh, plan)
        with loss_parallel():
            functional.cross_entropy(head(given), targets).backward()

    vocabulary = 4096
    divided, whole = (
        simulate(step, way, world_size=8, workspaces=":0:0").peak.requested_bytes
        for way in (True, False)
    )
    assert whole // 8 < divided < whole // 4


# Progress


def test_progress_is_told_and_may_end_the_step():
    def step():
        x = torch.ones(1, device="cuda")
        for _ in range(1000):
            x = x + 1

    told = []
    simulate(step, progress=told.append)
    assert told == sorted(set(told))
    assert 500 < told[-1] <= 1001

    def end(_operators):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(step, world_size=4, progress=end)
    assert not distributed.is_initialized()
