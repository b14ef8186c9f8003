"""The pretended device: what user code sees on it, and that nothing is left behind."""

import functools
import threading

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from pytest_memreq.errors import MemreqError, SimulationError
from pytest_memreq.simulate import simulate
from pytest_memreq.simulate.cards import find_card
from pytest_memreq.simulate.device import PretendedDevice

MIB = 2**20


def changed_names():
    """Everything a simulation touches: attributes, kernels, defaults."""
    owners = (
        torch,
        torch.Tensor,
        torch.cuda,
        torch.cuda.memory,
        torch.accelerator,
        torch.cuda.amp.common,
        torch.utils._device.DeviceContext,
        nn.Module,
        torch.optim.Optimizer,
    )
    names = {(str(owner), name): value for owner in owners for name, value in vars(owner).items()}
    kernels = {
        name: torch._C._dispatch_dump(f"aten::{name}")
        for name in ("mm", "linear", "softmax.int", "dropout", "scaled_dot_product_attention")
    }
    hooks = nn.modules.module._global_forward_pre_hooks, nn.modules.module._global_forward_hooks
    key = torch._C.DispatchKey.AutocastCUDA
    return {
        **names,
        **kernels,
        "hooks": [len(hook) for hook in hooks],
        "swap": torch.__future__.get_swap_module_params_on_conversion(),
        "autocast": torch._C._dispatch_tls_is_dispatch_key_included(key),
        "modes": torch._C._len_torch_dispatch_stack(),
    }


def train_once():
    model = nn.Linear(8, 8).cuda()
    with torch.autocast("cuda", dtype=torch.bfloat16):
        loss = model(torch.randn(4, 8, device="cuda")).sum()
    loss.backward()
    torch.optim.AdamW(model.parameters()).step()


def test_leaving_restores_every_name_kernel_and_default():
    before = changed_names()
    simulate(train_once)
    assert changed_names() == before


def test_an_exception_leaves_nothing_behind():
    def fail():
        train_once()
        raise KeyError("mine")

    before = changed_names()
    with pytest.raises(KeyError, match="mine"):
        simulate(fail)
    assert changed_names() == before
    assert torch.randn(2).device.type == "cpu"


def test_a_simulation_within_a_simulation_counts_for_itself():
    inner = []

    def outer():
        kept = torch.empty(4 * MIB, dtype=torch.uint8, device="cuda")
        inner.append(
            simulate(lambda: torch.empty(2 * MIB, dtype=torch.uint8, device="cuda").add_(1))
        )
        assert torch.cuda.memory_allocated() == 4 * MIB
        return kept

    before = changed_names()
    result = simulate(outer)
    assert inner[0].peak.requested_bytes == 2 * MIB
    assert result.peak.requested_bytes == 4 * MIB
    assert changed_names() == before


def test_a_second_thread_is_refused_and_the_first_unharmed():
    refusals = []

    def other():
        try:
            simulate(train_once)
        except SimulationError as error:
            refusals.append(str(error))

    def step():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        train_once()

    assert simulate(step).did_allocate
    assert len(refusals) == 1
    assert "another thread" in refusals[0]


def test_user_code_sees_a_cuda_device():
    def step():
        assert torch.cuda.is_available()
        assert torch.cuda.get_device_name() == "NVIDIA H200"
        tensors = [
            torch.zeros(2, device="cuda"),
            torch.zeros(2, device=torch.device("cuda", 0)),
            torch.zeros(2).cuda(),
            torch.zeros(2).to("cuda:0"),
            torch.tensor([1.0, 2.0], device="cuda"),
            torch.zeros(2).to(torch.zeros(1, device="cuda")),
            torch.zeros(2, device="cuda").new_tensor([1.0]),
            torch.zeros_like(torch.zeros(2), device="cuda"),
        ]
        with torch.device("cuda"):
            tensors += [torch.ones(3), torch.tensor([1.0])]
        assert all(tensor.is_cuda and not tensor.is_meta for tensor in tensors)
        assert {str(tensor.device) for tensor in tensors} == {"cuda:0"}
        assert all(tensor.cpu().device.type == "cpu" for tensor in tensors)
        assert "cuda:0" in repr(tensors[0])
        assert torch.cuda.memory_allocated() == 512 * len(tensors)

    simulate(step)


def test_tensors_asked_for_on_meta_take_no_memory():
    def step():
        on_meta = torch.empty(MIB, device="meta") + 1
        assert on_meta.is_meta
        assert torch.zeros(MIB).to("meta").is_meta
        assert torch.tensor([1.0], device="meta").is_meta

    assert not simulate(step).did_allocate


def test_cpu_tensors_really_compute():
    results = []
    simulate(lambda: results.append((torch.arange(4.0) * 2).sum().item()))
    assert results == [12.0]


def test_cpu_and_cuda_tensors_do_not_mix():
    def step():
        return torch.randn(3) + torch.randn(3, device="cuda")

    with pytest.raises(RuntimeError, match="same device"):
        simulate(step)


def test_parameters_keep_their_identity_when_a_module_moves():
    def step():
        model = nn.Linear(3, 3)
        weight = model.weight
        model.cuda()
        assert model.weight is weight
        assert weight.is_cuda

    simulate(step)


def test_storage_is_counted_from_birth_to_death():
    def step():
        kept = torch.empty(4 * MIB, dtype=torch.uint8, device="cuda")
        view = kept[: 2 * MIB]
        del kept
        assert torch.cuda.memory_allocated() == 4 * MIB
        del view
        assert torch.cuda.memory_allocated() == 0
        assert torch.cuda.max_memory_allocated() == 4 * MIB
        torch.cuda.reset_peak_memory_stats()
        assert torch.cuda.max_memory_allocated() == 0

    assert simulate(step).peak.allocated_bytes == 4 * MIB


def test_breakdown_names_what_is_live_at_the_peak():
    def step():
        model = nn.Linear(1024, 1024, bias=False).cuda()
        optimizer = torch.optim.AdamW(model.parameters())
        for _ in range(2):
            loss = model(torch.randn(512, 1024, device="cuda")).square().mean()
            loss.backward()
            optimizer.step()

    simulation = simulate(step, gpu="NVIDIA H200")
    breakdown = simulation.breakdown
    assert breakdown.parameters_bytes == 4 * MIB
    assert breakdown.gradients_bytes == 4 * MIB
    assert breakdown.optimizer_states_bytes == 8 * MIB
    # One for the forward thread and one for backward's; from 2.15 on one for the moment it is used.
    workspaces = 1 if torch.torch_version.TorchVersion(torch.__version__) >= (2, 15) else 2
    assert breakdown.workspaces_bytes == workspaces * 32 * MIB
    assert breakdown.inputs_bytes == 2 * MIB
    assert breakdown.context_bytes is None
    assert breakdown.total_bytes == simulation.peak.allocated_bytes
    assert sum(site.bytes for site in simulation.sites) == breakdown.total_bytes
    assert simulation.sites[0].bytes == max(site.bytes for site in simulation.sites)


def test_sites_name_module_source_shape_and_dtype():
    def step():
        model = nn.Sequential(nn.Linear(1024, 4096), nn.ReLU(), nn.Linear(4096, 64)).cuda()
        kept.append(model(torch.randn(2048, 1024, device="cuda")))

    kept = []
    sites = {(site.category, site.module): site for site in simulate(step).sites}
    activation = sites["activations", "1"]
    assert activation.shape == (2048, 4096)
    assert activation.dtype == "float32"
    assert activation.operator == "aten.relu"
    assert activation.source.startswith("tests/simulate/test_device.py:")
    assert sites["parameters", "2"].bytes == 512  # its bias, the smaller of the two


def test_forward_work_without_gradients_leaves_no_activations():
    def step():
        model = nn.Sequential(nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 1024)).cuda()
        with torch.no_grad():
            model(torch.randn(2048, 1024, device="cuda"))

    assert simulate(step).breakdown.activations_bytes == 0


def test_made_up_values_are_listed_with_their_line():
    def step():
        loss = torch.randn(3, device="cuda").sum()
        assert loss.item() == 0.0
        assert bool(torch.isfinite(loss))
        assert torch.equal(loss, loss.clone())

    pretended = simulate(step).pretended
    assert [text.split(" at ")[0] for text in pretended] == ["item()", "item()", "equal()"]
    assert all("tests/simulate/test_device.py:" in text for text in pretended)


def test_unknown_sizes_are_upper_bounds_and_said_to_be():
    simulation = simulate(lambda: torch.zeros(1000, device="cuda").nonzero())
    counting, selecting = 4, 1023  # what the kernel takes for itself
    assert simulation.peak.requested_bytes == 4000 + 8000 + counting + selecting
    assert any("aten.nonzero" in note for note in simulation.notes)


def test_a_mask_takes_positions_for_all_that_it_may_select():
    x = functools.partial(torch.zeros, 100, 50, device="cuda")
    positions, result = 5000 * 2 * 8, 5000 * 4
    read = simulate(lambda: x()[x() > 0])
    assert read.peak.requested_bytes == 20000 + 5000 + positions + result
    written = simulate(lambda: x().index_put_((x() > 0,), x()[0, 0]))
    assert written.peak.requested_bytes > 20000 + 5000 + positions
    filled = simulate(lambda: x().__setitem__(x() > 0, 1.0))
    assert filled.peak.requested_bytes == 2 * 20000 + 5000


def test_what_asks_for_a_size_that_depends_on_values_is_one_clear_error():
    def step():
        torch.zeros(5, device="cuda").repeat_interleave(torch.ones(5, dtype=int, device="cuda"))

    with pytest.raises(SimulationError, match=r"repeat_interleave at .*test_device.py:\d+ cannot"):
        simulate(step)


def test_an_operator_without_a_shape_rule_is_one_clear_error():
    def step():
        torch.randint(1, 20, (300,), device="cuda").bincount()

    with pytest.raises(SimulationError, match=r"bincount.* at .*test_device.py:\d+ cannot be"):
        simulate(step)


def test_convolutions_are_said_to_lack_their_workspace():
    simulation = simulate(
        lambda: nn.Conv2d(3, 8, 3).cuda()(torch.randn(2, 3, 32, 32, device="cuda"))
    )
    assert simulation.notes[0] == "workspaces of convolutions (cuDNN) are not counted"


def test_held_memory_counts_in_the_peak_and_is_told_apart():
    device = PretendedDevice(find_card("NVIDIA H200"))
    with device.active():
        held = torch.empty(4 * MIB, dtype=torch.uint8, device="cuda")
    device.prepare()
    with device.active():
        device.start()
        torch.empty(2 * MIB, dtype=torch.uint8, device="cuda")
        finding = device.finding()
    assert finding.held_bytes == 4 * MIB
    assert finding.peak.allocated_bytes == 6 * MIB
    del held


def test_timeline_keeps_the_peak_of_a_long_run():
    def step():
        for size in range(3000):
            torch.empty(512 * (size + 1), dtype=torch.uint8, device="cuda")

    simulation = simulate(step)
    assert len(simulation.timeline) <= 2100
    assert max(size for _, size in simulation.timeline) == simulation.peak.allocated_bytes


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"gpu": "Voodoo 2"}, "no card named 'Voodoo 2'"),
        ({"allocator": "x"}, "'x' is not key:value"),
    ],
)
def test_what_cannot_be_simulated_is_said_at_once(keywords, words):
    with pytest.raises(MemreqError, match=words):
        simulate(train_once, **keywords)


def test_phases_are_marked_on_the_timeline():
    def step():
        model = nn.Linear(100, 100).cuda()
        optimizer = torch.optim.Adam(model.parameters())
        for _ in range(2):
            model(torch.randn(10, 100, device="cuda")).sum().backward()
            optimizer.step()
            optimizer.zero_grad()

    simulation = simulate(step)
    starts, kinds = zip(*simulation.phases, strict=True)
    assert kinds == ("forward", "backward", "optimizer") * 2 + ("forward",)
    assert list(starts) == sorted(set(starts))
    assert starts[0] == 0
    assert starts[-1] <= simulation.timeline[-1][0]


def test_what_a_convolution_may_take_is_a_range_and_said_to_be():
    simulation = simulate(
        lambda: nn.Conv2d(3, 8, 3).cuda()(torch.zeros(2, 3, 64, 64, device="cuda"))
    )
    assert simulation.possible_peak_bytes > simulation.peak.allocated_bytes
    assert "with what is not counted, allocated may reach" in simulation.notes[-1]
    exact = simulate(lambda: nn.Linear(3, 8).cuda()(torch.zeros(2, 3, device="cuda")))
    assert exact.possible_peak_bytes is None
    assert exact.notes == ()


def test_user_code_that_resets_peaks_does_not_narrow_that_range():
    def step(resets):
        layer = nn.Conv2d(8, 8, 3).cuda()
        layer(torch.randn(4, 8, 64, 64, device="cuda")).sum().backward()
        if resets:
            torch.cuda.reset_peak_memory_stats()

    plain, reset = simulate(step, False), simulate(step, True)
    assert reset.possible_peak_bytes == plain.possible_peak_bytes > plain.peak.allocated_bytes


def test_a_model_made_on_meta_is_counted_when_it_is_given_memory():
    def step():
        with torch.device("meta"):
            model = nn.Linear(1000, 1000, bias=False)
        assert torch.cuda.memory_allocated() == 0
        with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
            model.to("cuda")
        model.to_empty(device="cuda")
        assert torch.cuda.memory_allocated() == 4_000_256

    simulate(step)


def test_workspaces_can_be_cleared():
    def step():
        a = torch.ones(8, 8, device="cuda")
        before = torch.cuda.memory_allocated()
        product = a @ a
        torch._C._cuda_clearCublasWorkspaces()
        del product
        assert torch.cuda.memory_allocated() == before

    simulate(step)


def test_numbers_set_into_a_tensor_take_no_memory():
    def step():
        x = torch.zeros(100, device="cuda")
        torch.cuda.reset_peak_memory_stats()
        x[3], x[4:6] = 1.0, True
        assert torch.cuda.max_memory_allocated() == 512

    simulate(step)


def test_the_workspace_is_as_large_as_its_setting_says():
    def step():
        a = torch.ones(8, 8, device="cuda")
        assert (a @ a).shape == (8, 8)

    simulation = simulate(step, workspaces=":4096:1:16:2")
    assert simulation.breakdown.workspaces_bytes == (4096 + 16 * 2) * 2**10


def test_a_card_of_another_maker_is_said_to_be_a_guess():
    notes = simulate(lambda: torch.ones(3, device="cuda"), gpu="MI300X").notes
    assert notes == (
        "kernels of ROCm are simulated as if they were CUDA's; this card was compared with nothing",
    )


def test_comparisons_answer_as_if_every_number_were_just_above_zero():
    def step():
        x = torch.randn(5, device="cuda")
        assert not (x.max() >= 30)
        assert x.max() <= 30
        assert (x >= 0).all()
        assert (x > 0).any()
        assert not (x < 0).any()
        assert x.isfinite().all()
        assert not x.isnan().any()
        assert (~(x == 0)).all()
        assert torch.ones(5, dtype=torch.bool, device="cuda").all()
        assert torch.allclose(x, x + 1)

    assert len(simulate(step).pretended) > 5


def test_distributions_and_their_constraints_are_satisfied():
    def step():
        torch.distributions.Normal(torch.zeros(5, device="cuda"), 1.0).rsample()
        torch.distributions.Categorical(logits=torch.zeros(5, 9, device="cuda")).sample()

    simulate(step)


def penalty(critic, x):
    """Backward through backward."""
    (slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    return critic(x).mean() + slope.square().mean()


def recomputed(critic, x):
    """Backward of what backward recorded."""
    return checkpoint(critic, x, use_reentrant=True).mean()


@pytest.mark.parametrize("loss", [penalty, recomputed])
def test_what_backward_records_belongs_to_the_modules_as_well(loss):
    class Critic(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.outer = nn.Linear(70, 500), nn.Linear(500, 400)

        def forward(self, x):
            return self.outer(self.inner(x).tanh())

    def step():
        loss(Critic().cuda(), torch.randn(20, 70, requires_grad=True, device="cuda")).backward()

    sites = [site for site in simulate(step).sites if site.operator == "aten.mm"]
    weights = {(500, 70): "inner", (400, 500): "outer"}
    assert {(site.module, site.shape) for site in sites if site.shape in weights} == {
        (module, shape) for shape, module in weights.items()
    }
    assert all(site.module for site in sites)


def test_what_is_compiled_is_run_as_it_was_written_and_said_to_be():
    def step(compiled):
        model = torch.nn.Linear(30, 30).cuda()
        run = torch.compile(model, backend="eager") if compiled else model
        run(torch.randn(5, 30, device="cuda")).sum().backward()
        torch.optim.Adam(model.parameters()).step()  # parts of it are kept from being compiled

    plain, compiled = simulate(step, False), simulate(step, True)
    assert compiled.peak == plain.peak
    assert compiled.sites == plain.sites  # with the modules' own names
    assert plain.notes == ()
    assert [note for note in compiled.notes if "torch.compile" in note] == list(compiled.notes)
    assert len(compiled.notes) == 1
