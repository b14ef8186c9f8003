"""Each optimizer's row against the state that the real one has after steps on the CPU."""

import inspect
from collections import Counter

import pytest
import torch

from pytest_memreq.errors import MemreqError
from pytest_memreq.estimate import Transformer, estimate
from pytest_memreq.estimate.optimizers import OPTIMIZERS, optimizer_of

SHAPES = [(7,), (5, 3), (4, 6), (2, 3, 5), (64, 65), (3, 2, 3, 3), ()]
MATRICES = [shape for shape in SHAPES if len(shape) == 2]

# What is written, the class, its options, the shapes it takes.
REAL = {
    "sgd": ("SGD", {}, SHAPES),
    "sgd(momentum=0.9)": ("SGD", {"momentum": 0.9}, SHAPES),
    "adam": ("Adam", {}, SHAPES),
    "adam(amsgrad=True)": ("Adam", {"amsgrad": True}, SHAPES),
    "adam(fused=True)": ("Adam", {"fused": True}, SHAPES),
    "adamw": ("AdamW", {}, SHAPES),
    "AdamW(amsgrad=True)": ("AdamW", {"amsgrad": True}, SHAPES),
    "adagrad": ("Adagrad", {}, SHAPES),
    "adadelta": ("Adadelta", {}, SHAPES),
    "rmsprop": ("RMSprop", {}, SHAPES),
    "rmsprop(momentum=0.9)": ("RMSprop", {"momentum": 0.9}, SHAPES),
    "rmsprop(centered=True, momentum=0.9)": (
        "RMSprop",
        {"momentum": 0.9, "centered": True},
        SHAPES,
    ),
    "nadam": ("NAdam", {}, SHAPES),
    "radam": ("RAdam", {}, SHAPES),
    "adamax": ("Adamax", {}, SHAPES),
    "asgd": ("ASGD", {}, SHAPES),
    "rprop": ("Rprop", {}, SHAPES),
    "adafactor": ("Adafactor", {}, SHAPES),
    "muon": ("Muon", {}, MATRICES),
    "sparse_adam": ("SparseAdam", {}, SHAPES[1:3]),
}
# Rows of what torch does not have; each is compared below, or with its paper.
NOT_OF_TORCH = ("adam8bit", "adamw8bit")
DTYPES = [torch.float32, torch.bfloat16]


def stepped(name, options, shapes, dtype):
    """The real optimizer after two steps, and its parameters."""
    parameters = [torch.nn.Parameter(torch.randn(shape).to(dtype)) for shape in shapes]
    optimizer = getattr(torch.optim, name)(parameters, **options)
    for _ in range(2):
        for parameter in parameters:
            grad = torch.randn(parameter.shape).to(dtype)
            parameter.grad = grad.to_sparse() if name == "SparseAdam" else grad
        optimizer.step()
    return optimizer, parameters


def expected(written, shape, dtype):
    """Bytes of each state of a parameter, by the row; states of no element are left out."""
    sizes = Counter()
    for state in optimizer_of(written).states:
        size = dtype.itemsize if state.element_bytes is None else state.element_bytes
        sizes[state.name] += state.elements(shape) * size
    return {name: size for name, size in sizes.items() if size}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("written", REAL)
def test_states_are_the_real_ones_parameter_by_parameter(written, dtype):
    optimizer, parameters = stepped(*REAL[written], dtype)
    for parameter in parameters:
        real = {
            name: value.numel() * value.element_size()
            for name, value in optimizer.state.get(parameter, {}).items()
            if isinstance(value, torch.Tensor) and value.numel()
        }
        assert expected(written, tuple(parameter.shape), dtype) == real


def test_every_optimizer_of_torch_has_a_row_that_is_compared():
    theirs = {
        name.lower()
        for name, value in vars(torch.optim).items()
        if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer)
    } - {"optimizer"}
    compared = {name.lower() for name, *_ in REAL.values()} | {"lbfgs"}
    assert theirs == compared == set(OPTIMIZERS) - set(NOT_OF_TORCH)


def test_every_option_of_a_row_is_one_of_the_real_optimizer():
    for name, row in OPTIMIZERS.items():
        options = set(inspect.signature(row).parameters)
        real = {key.lower(): value for key, value in vars(torch.optim).items()}.get(name)
        if real is not None:
            assert options <= set(inspect.signature(real).parameters)


def test_lbfgs_with_its_history_full_is_the_real_one():
    """It keeps all parameters as one vector, with the state of the first."""
    parameters = [torch.nn.Parameter(torch.full(shape, 2.0)) for shape in SHAPES]
    optimizer = torch.optim.LBFGS(parameters, lr=0.01, history_size=4, max_iter=12)

    def loss():
        optimizer.zero_grad()
        total = sum((p**4).sum() + (p**2).sum() for p in parameters)
        total.backward()
        return total

    optimizer.step(loss)
    state = optimizer.state[parameters[0]]
    assert len(state["old_dirs"]) == 4
    tensors = [v for v in state.values() if isinstance(v, torch.Tensor)]
    tensors += [v for values in state.values() if isinstance(values, list) for v in values]
    real = sum(t.numel() * t.element_size() for t in tensors)
    states = optimizer_of("lbfgs(history_size=4)").states
    ours = sum(
        4 * state.elements(shape)
        for state in states
        for shape in (SHAPES[:1] if state.is_shared else SHAPES)
    )
    assert ours == real


@pytest.mark.parametrize("name", ["Adam8bit", "AdamW8bit"])
def test_8_bit_states_are_those_of_bitsandbytes(name):
    optim = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed").optim
    shapes = [(64, 64), (64, 65), (4095,), (100, 1000), (7,)]
    parameters = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    optimizer = getattr(optim, name)(parameters)
    for at, parameter in enumerate(parameters):
        optimizer.init_state(optimizer.param_groups[0], parameter, 0, at)
    tensors = {
        id(value): value
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor)
    }
    real = sum(t.numel() * t.element_size() for t in tensors.values())
    assert real == sum(
        state.elements(shape) * state.element_bytes
        for state in optimizer_of(name).states
        for shape in (shapes[:1] if state.is_shared else shapes)
    )


@pytest.mark.parametrize(
    ("elements", "state_bytes"),
    [(4095, 2 * 4 * 4095), (4096, 2 * (4096 + 16 * 4)), (4097, 2 * (4097 + 17 * 4))],
)
def test_8_bit_states_are_in_blocks_and_small_parameters_stay_whole(elements, state_bytes):
    states = optimizer_of("adam8bit").states
    kept = sum(s.elements((elements,)) * s.element_bytes for s in states if not s.is_shared)
    assert kept == state_bytes


def test_muon_leaves_what_is_no_matrix_to_adamw():
    assert expected("muon", (7,), torch.float32) == expected("adamw", (7,), torch.float32)


def test_states_of_a_model_are_on_the_device_and_their_counters_on_the_host():
    model = torch.nn.Linear(5, 3)
    by_default = estimate(model, precision="fp32")
    assert by_default.breakdown.optimizer_states_bytes == 2 * 4 * 18
    assert by_default.cpu_bytes == 2 * 4
    fused = estimate(model, precision="fp32", optimizer="adam(fused=True)")
    assert fused.breakdown.optimizer_states_bytes == 2 * 4 * 18 + 2 * 4
    assert fused.cpu_bytes == 0
    shared = estimate(model, precision="fp32", optimizer="adam8bit")
    assert shared.breakdown.optimizer_states_bytes == 2 * 4 * 18 + 2 * 256 * 4


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("adm", "optimizer='adm' is not known; write one of sgd, adam,"),
        ("adam)", "optimizer='adam)' is not known"),
        ("", "optimizer='' is not known"),
        (None, "optimizer=None is not known"),
        ("adam(lr=0.1)", "'lr=0.1' is no option that changes what it keeps; those are: amsgrad"),
        ("adam(amsgrad)", "'amsgrad' is no option"),
        ("adam(amsgrad=yes)", "'amsgrad=yes' is no option"),
        ("asgd(capturable=True)", "those are: none"),
    ],
)
def test_an_unknown_optimizer_or_option_names_what_is_known(written, said):
    with pytest.raises(MemreqError) as error:
        estimate("61M", optimizer=written)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["adafactor", "muon"])
def test_states_by_shape_cannot_be_told_from_a_count(name):
    with pytest.raises(MemreqError, match="by the shape of each parameter; give a module"):
        estimate("61M", optimizer=name)
    assert estimate("61M", optimizer=name, task="inference").total_bytes == 122_000_000
    small = Transformer(layers=1, hidden=8, heads=2, vocabulary=16)
    assert estimate(small, optimizer=name).total_bytes > 0
