"""The breakdown of a peak from a real card's memory history."""

import gc

import pytest
import torch
from torch import nn

from pytest_memreq.measure import history
from pytest_memreq.measure.backends.generations import BlockKey
from pytest_memreq.measure.history import recording

WIDTH, HIDDEN, BATCH = 256, 1024, 512
FLOAT = 4
HERE = "tests/gpu/test_history.py"


@pytest.fixture(autouse=True)
def card():
    # Not while the module is imported: the plugin pretends a card to those that ask then.
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    gc.collect()
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def mlp():
    return nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, WIDTH)).cuda()


def block_bytes(elements):
    return -(-elements * FLOAT // 512) * 512


def weights_bytes(model):
    return sum(block_bytes(parameter.numel()) for parameter in model.parameters())


def train(model, optimizer, steps):
    for _ in range(steps):
        x = torch.randn(BATCH, WIDTH, device="cuda")
        model(x).sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def explained(work, left=()):
    with recording(0) as recorded:
        kept = work()
        explanation = recorded.explain(left)
    assert not torch._C._cuda_isHistoryEnabled()
    del kept
    return explanation


def test_a_training_step_is_told_to_the_byte():
    def work():
        model = mlp()
        optimizer = torch.optim.Adam(model.parameters())
        train(model, optimizer, 2)
        return model, optimizer

    found = explained(work)
    parts = found.breakdown
    weights = weights_bytes(mlp())
    assert parts.parameters_bytes == weights
    assert parts.optimizer_states_bytes == 2 * weights
    # The peak is where the first layer's gradients are not made yet.
    assert parts.gradients_bytes == block_bytes(WIDTH * HIDDEN) + block_bytes(WIDTH)
    assert parts.inputs_bytes == block_bytes(BATCH * WIDTH)
    # What the ReLU made, which both it and the second layer keep; the output is kept by none.
    assert parts.activations_bytes == block_bytes(BATCH * HIDDEN)
    assert parts.total_bytes == torch.cuda.max_memory_allocated()
    assert found.notes == ()
    assert found.peak_at.startswith(f"backward, {HERE}:")


def test_the_peak_of_a_step_has_every_gradient():
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    found = explained(lambda: train(model, optimizer, 1)).breakdown
    # The first step: its states are made while all gradients are there.
    assert found.parameters_bytes == found.gradients_bytes == weights_bytes(model)
    assert found.total_bytes == torch.cuda.max_memory_allocated()


def test_memory_over_time_has_the_peak():
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    found = explained(lambda: train(model, optimizer, 2))
    assert max(size for _, size in found.timeline) == found.breakdown.total_bytes
    assert [at for at, _ in found.timeline] == sorted({at for at, _ in found.timeline})
    assert found.timeline[0][0] == 0


def test_sites_name_lines_modules_and_shapes():
    def work():
        model = mlp()
        optimizer = torch.optim.Adam(model.parameters())
        train(model, optimizer, 2)
        return model, optimizer

    sites = explained(work).sites
    sizes = [site.bytes for site in sites]
    assert sizes == sorted(sizes, reverse=True)
    assert all(site.source.startswith(f"{HERE}:") for site in sites if site.source)
    weight = next(s for s in sites if s.category == "parameters" and s.module == "2")
    assert (weight.shape, weight.dtype) == ((WIDTH, HIDDEN), "float32")
    states = next(s for s in sites if s.category == "optimizer_states" and s.module == "0")
    assert states.count == 2
    gradient = next(s for s in sites if s.category == "gradients")
    lines = {s.category: s.source for s in sites}
    assert gradient.source is not None
    assert len({lines[c] for c in ("parameters", "inputs", "gradients", "optimizer_states")}) == 4


def test_what_others_left_is_not_in_it():
    others = torch.ones(1 << 20, device="cuda")
    left = {BlockKey(0, others.data_ptr())}
    alone = explained(lambda: torch.ones(1 << 18, device="cuda"), left)
    assert alone.breakdown.total_bytes == 1 << 20
    both = explained(lambda: torch.ones(1 << 18, device="cuda"))
    assert both.breakdown.total_bytes == 5 << 20


def test_buffers_and_inference():
    model = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.BatchNorm1d(HIDDEN)).cuda().eval()
    x = torch.randn(BATCH, WIDTH, device="cuda")
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=False):
        found = explained(lambda: model(x)).breakdown
    # Running mean and variance, and how many batches were seen.
    assert found.buffers_bytes == 2 * block_bytes(HIDDEN) + 512
    assert (found.inputs_bytes, found.activations_bytes) == (block_bytes(BATCH * WIDTH), 0)


def test_workspaces_of_cublas_are_told():
    model = mlp()
    found = explained(lambda: model(torch.ones(BATCH, WIDTH, device="cuda"))).breakdown
    assert found.workspaces_bytes > 0
    assert found.total_bytes == torch.cuda.max_memory_allocated()


def test_a_trace_that_was_cut_says_so(monkeypatch):
    monkeypatch.setattr(history, "MOST_EVENTS", 60)
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    found = explained(lambda: train(model, optimizer, 5))
    assert "an earlier peak is not seen" in found.notes[0]
    assert found.breakdown.parameters_bytes == weights_bytes(model)


def test_history_is_off_after_an_error():
    with pytest.raises(ZeroDivisionError), recording(0):
        _ = 1 // 0
    assert not torch._C._cuda_isHistoryEnabled()


def test_a_history_of_the_users_stays_on():
    torch.cuda.memory._record_memory_history(max_entries=1000)
    try:
        before = torch.ones(1 << 18, device="cuda")
        with recording(0) as recorded:
            mine = torch.ones(1 << 19, device="cuda")
            found = recorded.explain(())
        assert torch._C._cuda_isHistoryEnabled()
        trace = torch.cuda.memory._snapshot()["device_traces"][0]
        assert before.data_ptr() in [event["addr"] for event in trace]
    finally:
        torch.cuda.memory._record_memory_history(None)
    assert found.breakdown.total_bytes == 3 << 20
    assert "was on already" in found.notes[0]
    assert {site.source.rpartition(":")[0] for site in found.sites} == {HERE}
    del mine


def test_statistics_that_are_set_back_are_noticed():
    model = mlp()

    def work():
        model(torch.ones(BATCH, WIDTH, device="cuda")).sum().backward()
        torch.cuda.reset_accumulated_memory_stats()

    found = explained(work)
    assert "set back" in found.notes[0]
    assert found.breakdown.parameters_bytes == weights_bytes(model)


def test_a_snapshot_is_written_for_the_viewer(tmp_path):
    with recording(0) as recorded:
        kept = torch.ones(1, device="cuda")
        recorded.save(tmp_path / "snapshot.pickle")
    assert (tmp_path / "snapshot.pickle").stat().st_size > 0
    del kept
