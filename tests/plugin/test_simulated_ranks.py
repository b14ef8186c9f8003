"""One rank of many, from within a test."""

STEP = """
    import torch
    from torch import distributed, nn
    from torch.distributed.fsdp import fully_shard

    def step():
        model = fully_shard(nn.Linear(1024, 1024, bias=False, device="cuda"))
        model(torch.randn(8, 1024, device="cuda")).sum().backward()
"""


def test_a_rank_is_held_against_a_budget(pytester):
    pytester.makepyfile(
        STEP
        + """
    def test_fits(memreq):
        found = memreq.simulate(step, world_size=1024, rank=1)
        assert (found.rank, found.world_size) == (1, 1024)
        memreq.check(found, "1 GiB")

    def test_does_not(memreq):
        memreq.check(memreq.simulate(step, world_size=8), "1 MiB")
    """
    )
    result = pytester.runpytest_subprocess("--memreq=simulate", "-W", "ignore")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*MemoryBudgetExceeded*over the budget of 1.00 MiB*"])


def test_a_marked_test_makes_its_group_itself_and_leaves_it_to_its_fixture(pytester):
    pytester.makepyfile(
        STEP
        + """
    import pytest

    @pytest.fixture(scope="module")
    def group():
        distributed.init_process_group("nccl", rank=3, world_size=8)
        yield
        distributed.destroy_process_group()

    @pytest.mark.max_gpu_memory("1 GiB")
    @pytest.mark.parametrize("again", [False, True])
    def test_shards(group, again):
        assert (distributed.get_rank(), distributed.get_world_size()) == (3, 8)
        step()
    """
    )
    result = pytester.runpytest_subprocess("--memreq=simulate", "-W", "ignore", "--memreq-report")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*2 within*"])
