"""Everyday CUDA code, as people write it: each piece runs, or ends in one clear error."""

import copy
import io
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, grad
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from pytest_memreq import simulate
from pytest_memreq.errors import SimulationError

CUDA = {"device": "cuda"}
SNIPPETS = []


def snippet(function):
    SNIPPETS.append(function)
    return function


@snippet
def lstm():
    result, _ = nn.LSTM(64, 128, 2, batch_first=True).cuda()(torch.randn(8, 20, 64, **CUDA))
    result.sum().backward()


@snippet
def gru():
    result, _ = nn.GRU(64, 128).cuda()(torch.randn(8, 20, 64, **CUDA))
    result.sum().backward()


@snippet
def copied_model_as_moving_average():
    model = nn.Linear(3, 3).cuda()
    average = copy.deepcopy(model)
    assert average.weight.is_cuda
    for mean, parameter in zip(average.parameters(), model.parameters(), strict=True):
        mean.data.mul_(0.9).add_(parameter.data, alpha=0.1)


@snippet
def state_dict_between_devices():
    state = nn.Linear(3, 3).cuda().state_dict()
    nn.Linear(3, 3).cuda().load_state_dict(state)
    on_cpu = nn.Linear(3, 3)
    on_cpu.load_state_dict(state)
    assert not on_cpu.weight.is_cuda


@snippet
def saved_and_loaded():
    file = io.BytesIO()
    torch.save(nn.Linear(3, 3).state_dict(), file)
    file.seek(0)
    assert torch.load(file, map_location="cuda")["weight"].is_cuda


@snippet
def saved_from_the_card():
    torch.save(nn.Linear(3, 3).cuda().state_dict(), io.BytesIO())


@snippet
def loader_with_pinned_memory():
    data = TensorDataset(torch.randn(20, 3))
    for (batch,) in DataLoader(data, batch_size=4, pin_memory=True):
        assert batch.to("cuda", non_blocking=True).is_cuda


@snippet
def attention_whose_mask_learns():
    """cuDNN's, which the default card prefers, takes no such mask."""
    q = torch.randn(2, 4, 64, 64, dtype=torch.float16, requires_grad=True, **CUDA)
    bias = torch.randn(1, 4, 64, 64, dtype=torch.float16, requires_grad=True, **CUDA)
    nn.functional.scaled_dot_product_attention(q, q, q, attn_mask=bias).sum().backward()
    assert bias.grad.shape == bias.shape


class Noisy(nn.Module):
    """What torch.jit.script must find torch's own: makers of tensors, methods of theirs."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.register_buffer("mean", torch.ones(3))

    def forward(self, x):
        return self.layer(x) + torch.zeros_like(x) + torch.ones(3, device=x.device) - self.mean


@snippet
def scripted_module():
    model = torch.jit.script(Noisy()).cuda()
    assert all(tensor.is_cuda for tensor in (*model.parameters(), *model.buffers()))
    model(torch.randn(2, 3, **CUDA)).sum().backward()
    assert all(parameter.grad.is_cuda for parameter in model.parameters())


@snippet
def traced_module():
    x = torch.randn(2, 3, **CUDA)
    traced = torch.jit.trace(Noisy().cuda(), x)
    assert traced.cuda()(x).is_cuda
    assert not traced.cpu().layer.weight.is_cuda


@snippet
def derivatives_forward():
    model, x = nn.Sequential(nn.Linear(3, 3), nn.Tanh()).cuda(), torch.randn(2, 3, **CUDA)
    _, tangent = torch.func.jvp(model, (x,), (torch.ones_like(x),))
    assert tangent.is_cuda
    assert torch.func.jacfwd(model)(x).shape == (2, 3, 2, 3)
    assert torch.func.hessian(lambda x: model(x).sum())(x).shape == (2, 3, 2, 3)


@snippet
def weight_norm_of_old():
    model = nn.utils.weight_norm(nn.Linear(3, 3)).cuda()
    assert all(parameter.is_cuda for parameter in model.parameters())
    model(torch.randn(2, 3, **CUDA)).sum().backward()


@snippet
def captured_graph():
    model, x = nn.Linear(64, 64).cuda(), torch.randn(8, 64, **CUDA)
    graph = torch.cuda.CUDAGraph()
    assert not torch.cuda.is_current_stream_capturing()
    with torch.cuda.graph(graph, pool=torch.cuda.graph_pool_handle()):
        assert torch.cuda.is_current_stream_capturing()
        y = model(x)
    graph.replay()
    assert y.is_cuda
    assert not torch.cuda.is_current_stream_capturing()


@snippet
def graphed_module():
    x = torch.randn(8, 64, **CUDA)
    model = torch.cuda.make_graphed_callables(nn.Linear(64, 64).cuda(), (x,))
    model(x).sum().backward()
    assert model.weight.grad.is_cuda


@snippet
def ranges_of_a_profiler():
    with torch.cuda.nvtx.range("step"):
        torch.cuda.nvtx.mark("here")
        torch.ones(3, **CUDA)


@snippet
def jagged_tensor():
    rows = [torch.randn(3, 8), torch.randn(5, 8)]
    jagged = torch.nested.nested_tensor(rows, layout=torch.jagged, device="cuda")
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.GELU()).cuda()
    result = model(jagged)
    assert result.is_cuda
    padded = torch.nested.to_padded_tensor(result, 0.0)
    assert padded.shape == (2, 5, 8)
    padded.sum().backward()
    assert model[0].weight.grad.is_cuda


@snippet
def choice_between_functions():
    x = torch.ones(3, **CUDA)
    taken = torch.cond(torch.ones((), dtype=torch.bool, **CUDA), lambda x: x[:2], lambda x: x, (x,))
    assert taken.shape == (2,)


@snippet
def shared_and_addressed():
    weight = nn.Linear(3, 4).cuda().share_memory().weight
    assert weight.data_ptr() == weight.detach().data_ptr() != 0
    assert weight[1].data_ptr() == weight.data_ptr() + 12
    assert torch.ones(3, **CUDA).data_ptr() != weight.data_ptr()


@snippet
def compiled_model():
    model = torch.compile(nn.Linear(3, 3).cuda())
    model(torch.randn(2, 3, **CUDA)).sum().backward()


@snippet
def streams_and_events():
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    end.record()
    torch.cuda.synchronize()
    assert start.elapsed_time(end) >= 0
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        tensor = torch.randn(3, **CUDA)
    torch.cuda.current_stream().wait_stream(stream)
    tensor.record_stream(stream)


@snippet
def data_parallel_on_one_card():
    nn.DataParallel(nn.Linear(3, 3).cuda())(torch.randn(2, 3, **CUDA))


@snippet
def generator_of_the_card():
    generator = torch.Generator(device="cuda")
    generator.manual_seed(0)
    torch.randn(3, generator=generator, **CUDA)


@snippet
def seeds():
    torch.manual_seed(0)
    torch.cuda.manual_seed_all(0)
    torch.cuda.set_rng_state(torch.cuda.get_rng_state())


@snippet
def half_precision():
    nn.Linear(3, 3).cuda().half()(torch.randn(2, 3, dtype=torch.half, **CUDA))


@snippet
def muon():
    model = nn.Linear(64, 64, bias=False).cuda()
    optimizer = torch.optim.Muon(model.parameters())
    model(torch.randn(2, 64, **CUDA)).sum().backward()
    optimizer.step()


@snippet
def lbfgs():
    model = nn.Linear(4, 4).cuda()
    optimizer = torch.optim.LBFGS(model.parameters())

    def closure():
        optimizer.zero_grad()
        loss = model(torch.randn(2, 4, **CUDA)).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)


@snippet
def scheduler():
    model = nn.Linear(4, 4).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    model(torch.randn(2, 4, **CUDA)).sum().backward()
    optimizer.step()
    schedule.step()


@snippet
def printed_and_listed():
    tensor = torch.randn(3, **CUDA)
    assert "cuda:0" in str(tensor)
    assert f"{tensor.mean():.3f}" == "0.000"
    assert tensor.tolist() == [0, 0, 0]
    assert tensor.cpu().numpy().shape == (3,)
    with pytest.raises(TypeError, match="can't convert cuda:0"):
        tensor.numpy()


@snippet
def sparse_gradient():
    embedding = nn.Embedding(100, 8, sparse=True).cuda()
    embedding(torch.zeros(4, dtype=torch.long, **CUDA)).sum().backward()
    assert embedding.weight.grad.is_sparse


@snippet
def functional_gradient():
    model = nn.Linear(3, 3).cuda()
    parameters = dict(model.named_parameters())
    grad(lambda p, x: functional_call(model, p, (x,)).sum())(parameters, torch.randn(2, 3, **CUDA))


@snippet
def indexing():
    tensor = torch.randn(10, 3, **CUDA)
    assert tensor[torch.tensor([1, 2])].is_cuda
    assert tensor[tensor > 0].dim() == 1
    tensor[0] = 1
    tensor[tensor > 0] = 0
    assert tensor[:, None].expand(-1, 4, -1).contiguous().shape == (10, 4, 3)


@snippet
def default_device():
    torch.set_default_device("cuda")
    try:
        assert nn.Linear(2, 2).weight.is_cuda
    finally:
        torch.set_default_device(None)


@snippet
def reentrant_checkpoint():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU()).cuda()
    inputs = torch.randn(2, 8, requires_grad=True, **CUDA)
    checkpoint(model, inputs, use_reentrant=True).sum().backward()


@snippet
def activations_on_the_cpu():
    with torch.autograd.graph.save_on_cpu(pin_memory=True):
        result = nn.Linear(8, 8).cuda()(torch.randn(2, 8, **CUDA)).relu()
    result.sum().backward()


@snippet
def numpy_arrays():
    assert torch.from_numpy(np.zeros((3, 3), dtype=np.float32)).cuda().is_cuda
    assert torch.as_tensor(np.ones(3), **CUDA).is_cuda


@snippet
def values_compared():
    zeros = torch.zeros(3, **CUDA)
    torch.testing.assert_close(zeros, zeros.clone())
    loss = zeros.mean()
    assert torch.isfinite(loss)
    assert not torch.isnan(loss).any()


@snippet
def attention_module():
    attention = nn.MultiheadAttention(64, 4, batch_first=True).cuda()
    inputs = torch.randn(2, 5, 64, **CUDA)
    attention(inputs, inputs, inputs)[0].sum().backward()


@snippet
def grouped_queries():
    query = torch.randn(2, 8, 16, 64, requires_grad=True, **CUDA)
    key = torch.randn(2, 2, 16, 64, requires_grad=True, **CUDA)
    attend = nn.functional.scaled_dot_product_attention
    attend(query, key, key, enable_gqa=True).sum().backward()


@snippet
def encoder_for_inference():
    layer = nn.TransformerEncoderLayer(64, 4, batch_first=True)
    model = nn.TransformerEncoder(layer, 2).cuda().eval()
    with torch.no_grad():
        model(torch.randn(2, 5, 64, **CUDA))


@snippet
def volumes():
    nn.Conv3d(1, 2, 3).cuda()(torch.randn(1, 1, 8, 8, 8, **CUDA)).sum().backward()


@snippet
def sampled_and_sorted():
    torch.randperm(10, **CUDA)
    torch.multinomial(torch.ones(5, **CUDA), 2)
    torch.topk(torch.randn(10, **CUDA), 3)
    torch.sort(torch.randn(10, **CUDA))


@snippet
def data_assigned_across_devices():
    parameter = nn.Parameter(torch.randn(3))
    parameter.data = parameter.data.cuda()
    assert parameter.is_cuda


@snippet
def tied_weights():
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False))
    model[1].weight = model[0].weight
    model.cuda()
    assert model[1].weight is model[0].weight
    assert torch.cuda.memory_allocated() == 512


@snippet
def moved_twice_and_back():
    model = nn.Linear(3, 3).to("cuda").to("cuda")
    assert torch.cuda.memory_allocated() == 1024
    model.cpu()
    assert torch.cuda.memory_allocated() == 0


def in_a_thread(work):
    """What a user's own pool of threads does; errors in it are the user's to look at."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work)


@snippet
def threads_of_the_cpu():
    torch.ones(3, **CUDA)
    assert in_a_thread(lambda: torch.ones(3) * 2).result().tolist() == [2, 2, 2]


@pytest.mark.parametrize("step", SNIPPETS, ids=lambda step: step.__name__)
@pytest.mark.filterwarnings("ignore")  # of torch, about old or slow ways that people still go
def test_it_runs(step):
    simulate(step)


def pool_of_ones_own():
    torch.cuda.MemPool()


def exported():
    torch.export.export(nn.Linear(3, 3).cuda(), (torch.ones(2, 3, **CUDA),))


def rows_of_a_list():
    torch.nested.nested_tensor([torch.ones(2, 3, **CUDA)])


def attention_in_eager():
    query = torch.randn(1, 4, 256, 64, **CUDA)
    flex_attention(query, query, query)


def moved_in_a_thread():
    in_a_thread(lambda: torch.ones(3).to("cuda"))


def computed_in_a_thread():
    x = torch.ones(3, **CUDA)
    in_a_thread(lambda: x * 2)


@pytest.mark.parametrize("step", [moved_in_a_thread, computed_in_a_thread])
def test_work_of_another_thread_is_not_overlooked(step):
    with pytest.raises(SimulationError, match="a thread that the test started works on the card"):
        simulate(step)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (lambda: torch.cuda.memory_summary(), r"memory_summary\(\) cannot be simulated: it asks"),  # noqa: PLW0108 - it is replaced
        (lambda: torch.cuda.utilization(), r"utilization\(\) cannot be simulated: it asks"),  # noqa: PLW0108
        (pool_of_ones_own, r"MemPool\(\) cannot be simulated: segments in pools of your own"),
        (exported, r"torch\.export\.export\(\) cannot be simulated: it traces"),
        (rows_of_a_list, r"test_snippets\.py:\d+ cannot be simulated: torch has no strided nested"),
        (attention_in_eager, "flex_attention without torch.compile makes the whole matrix"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_simulated_is_one_clear_error(step, said):
    with pytest.raises(SimulationError, match=rf"{said}.*--memreq measure") as error:
        simulate(step)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("is_around", [False, True], ids=["it", "what calls it"])
@pytest.mark.filterwarnings("ignore")
def test_flex_attention_that_is_compiled_takes_what_its_kernel_does(is_around):
    shape = batch, heads, rows, _ = 2, 4, 256, 64

    def attend(query, mask, attention=flex_attention):
        return attention(query, query, query, block_mask=mask)

    def step():
        run = (
            torch.compile(attend)
            if is_around
            else partial(attend, attention=torch.compile(flex_attention))
        )
        query = torch.randn(*shape, dtype=torch.bfloat16, requires_grad=True, **CUDA)
        mask = create_block_mask(lambda _b, _h, i, j: i >= j, None, None, rows, rows, device="cuda")
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        result = run(query, mask)
        one, sums = 2 * result.numel(), 4 * batch * heads * rows
        assert torch.cuda.memory_allocated() - held == one + sums
        grad = torch.ones_like(result)
        result.backward(grad)
        assert torch.cuda.max_memory_allocated() - held == 5 * one + 2 * sums

    notes = simulate(step).notes
    assert any("flex_attention is simulated as the kernel" in note for note in notes)
