"""Everyday CUDA code, as people write it: each piece runs, or ends in one clear error."""

import copy
import io

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, grad
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


@pytest.mark.parametrize("step", SNIPPETS, ids=lambda step: step.__name__)
@pytest.mark.filterwarnings("ignore")  # of torch, about old or slow ways that people still go
def test_it_runs(step):
    simulate(step)


@pytest.mark.parametrize("name", ["memory_summary", "utilization"])
def test_what_only_a_device_knows_is_one_clear_error(name):
    refusal = rf"torch\.cuda\.{name}\(\) cannot be simulated: .*--memreq measure"

    def step():
        getattr(torch.cuda, name)()

    with pytest.raises(SimulationError, match=refusal):
        simulate(step)
