"""The founding formula and its other rows: bytes from counts."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pytest_memreq.errors import MemreqError
from pytest_memreq.estimate import estimate
from pytest_memreq.estimate.formula import requirement, setup_of
from pytest_memreq.estimate.model import Buffers, Model, Parameter
from pytest_memreq.estimate.precisions import PRECISIONS


@pytest.mark.parametrize(
    ("count", "total_bytes"),
    [
        ("175B", 3_500_000_000_000),
        ("61M", 1_220_000_000),
        ("2440M", 48_800_000_000),
        (62_378_344, 1_247_566_880),
    ],
)
def test_a_parameter_count_needs_20_bytes_each(count, total_bytes):
    needed = estimate(count)
    assert needed.total_bytes == total_bytes
    assert needed.layers == ()
    assert needed.cpu_bytes == needed.nvme_bytes == 0


def test_what_a_count_cannot_tell_is_none():
    known = {word: size for word, size in estimate("1K").breakdown.items() if size is not None}
    assert known == {"parameters": 2_000, "gradients": 2_000, "optimizer_states": 16_000}


# Bytes a parameter with Adam, and with SGD without momentum.
BYTES = {
    "mixed": (20, 12),
    "mixed_half_gradients": (16, 8),
    "mixed_single_gradients": (18, 10),
    "fp32": (16, 8),
    "autocast": (16 + 2, 8 + 2),
    "bf16": (8, 4),
    "fp16": (8, 4),
    "fp8": (15, 7),
}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_bytes_of_a_parameter_in_each_precision(precision):
    adam, sgd = (estimate(1000, precision=precision, optimizer=o) for o in ("adam", "sgd"))
    assert (adam.total_bytes, sgd.total_bytes) == tuple(1000 * n for n in BYTES[precision])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_what_a_real_step_leaves_in_one_precision_is_the_rows_sum(dtype):
    model = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7)).to(dtype)
    optimizer = torch.optim.Adam(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    states = [v for state in optimizer.state.values() for k, v in state.items() if k != "step"]
    held = [*model.parameters(), *(p.grad for p in model.parameters()), *states, *model.buffers()]
    held_bytes = sum(tensor.numel() * tensor.element_size() for tensor in held)
    name = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]
    assert estimate(model, precision=name).total_bytes == held_bytes
    # What is estimated is the precision asked for, whatever the model is in.
    assert estimate(model.float(), precision=name).total_bytes == held_bytes


@given(
    trainable=st.integers(0, 10**12),
    frozen=st.integers(0, 10**12),
    activations=st.integers(0, 10**12),
    buffers=st.integers(0, 10**9),
    batch_size=st.integers(1, 10**4),
)
def test_the_sum_is_the_formula(trainable, frozen, activations, buffers, batch_size):
    model = Model(
        parameters=(
            Parameter(shape=(trainable,)),
            Parameter(shape=(frozen,), is_trainable=False),
        ),
        buffers=Buffers(other_bytes=buffers),
        activation_elements=activations,
    )
    setup = setup_of(optimizer="adam", precision="mixed", batch_size=batch_size)
    total = 20 * trainable + 2 * frozen + 4 * activations * batch_size + buffers
    assert requirement(model, setup).total_bytes == total


class LoRA(nn.Module):
    """A frozen layer and two small matrices beside it (Hu et al., arXiv 2106.09685)."""

    def __init__(self, base, rank):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


def test_of_a_frozen_layer_only_the_weights_are_held():
    needed = estimate(LoRA(nn.Linear(100, 50), rank=4))
    frozen, trained = 100 * 50 + 50, 4 * (100 + 50)
    assert needed.breakdown.parameters_bytes == 2 * (frozen + trained)
    assert needed.breakdown.gradients_bytes == 2 * trained
    assert needed.breakdown.optimizer_states_bytes == 16 * trained
    assert needed.parameter_elements == frozen + trained


def test_packed_weights_are_of_their_own_size():
    model = nn.Linear(8, 4, bias=False)
    packed = torch.zeros(16, dtype=torch.uint8)  # 32 weights of 4 bits
    model.weight = nn.Parameter(packed, requires_grad=False)
    assert estimate(LoRA(model, rank=2)).breakdown.parameters_bytes == 16 + 2 * 2 * (8 + 4)


def test_inference_holds_weights_and_buffers_alone():
    model = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7))
    needed = estimate(model, torch.ones(2, 5), task="inference", precision="fp16")
    known = {word: size for word, size in needed.breakdown.items() if size}
    assert known == {"parameters": 2 * (42 + 14), "buffers": 2 * 14 + 8}
    assert needed.breakdown.gradients_bytes == needed.breakdown.optimizer_states_bytes == 0
    assert needed.breakdown.activations_bytes is None


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"optimizer": "sdg"}, "optimizer='sdg' is not known; write one of sgd, adam,"),
        ({"optimizer": ["adam"]}, "optimizer=['adam'] is not known"),
        ({"precision": "int3"}, "precision='int3' is not known; write one of mixed,"),
        ({"precision": None}, "precision=None is not known"),
        ({"task": "serving"}, "task='serving' is not known; write one of training, inference"),
        ({"recompute": "some"}, "recompute='some' is not known; write one of none,"),
        ({"parallelism": 8}, "parallelism=8 is no pytest_memreq.Parallelism"),
        ({"batch_size": 0}, "batch_size=0 is not a whole number of 1 or more"),
        ({"batch_size": True}, "batch_size=True is not a whole number"),
        ({"batch_size": 1.5}, "batch_size=1.5 is not a whole number"),
        ({"sequence_length": 8}, "sequence_length divides or changes layers that only a"),
        ({"recompute": "full"}, "recompute divides or changes layers"),
    ],
)
def test_an_unknown_setup_names_what_is_known(asked, said):
    with pytest.raises(MemreqError) as error:
        estimate("61M", **asked)
    assert str(error.value).startswith(said)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (1.5, "cannot estimate a float; give an nn.Module, a Transformer, or a parameter count"),
        (None, "cannot estimate a NoneType"),
        (dict, "cannot estimate a type"),
        ("abc", "'abc' is not a parameter count"),
        (0, "0 is not a parameter count; write"),
        (-3, "-3 is not a parameter count; write"),
    ],
)
def test_what_is_neither_model_nor_count_is_an_error(model, said):
    with pytest.raises(MemreqError) as error:
        estimate(model)
    assert str(error.value).startswith(said)


def test_inputs_with_a_parameter_count_are_an_error():
    with pytest.raises(MemreqError, match="inputs were given with the parameter count '61M'"):
        estimate("61M", object())
    with pytest.raises(MemreqError, match="inputs were given with a configuration"):
        estimate({"layers": 1}, keyword_inputs={"x": object()})
