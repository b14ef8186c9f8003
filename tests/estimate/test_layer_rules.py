"""Every rule against the layer that it stands for, and tables with rules against those without."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from example_project.models.alexnet import AlexNet
from example_project.models.coatnet import coatnet_0
from example_project.models.gpt import GPT
from example_project.models.resnet import ResNet50
from example_project.models.vit import ViT
from pytest_memreq.estimate import tracing
from pytest_memreq.estimate.layer_rules import OPERATOR_RULES, RULES

META = torch.device("meta")
LAYERS = {
    "linear": (lambda: nn.Linear(6, 4), [(6,), (2, 6), (2, 3, 6), (2, 5), ()]),
    "embedding": (lambda: nn.Embedding(9, 4), [(3,), (2, 3), ()]),
    "half embedding": (lambda: nn.Embedding(9, 4, dtype=torch.float16), [(2, 3)]),
    "embedding with a largest norm": (lambda: nn.Embedding(9, 4, max_norm=1.0), [(2, 3)]),
    "convolution": (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1), [(2, 4, 7, 9), (4, 7, 9)]),
    "dilated": (lambda: nn.Conv2d(4, 6, (3, 2), dilation=(2, 3), groups=2), [(2, 4, 9, 9)]),
    "same": (lambda: nn.Conv2d(4, 6, 3, padding="same"), [(2, 4, 7, 9)]),
    "too small": (lambda: nn.Conv2d(4, 6, 9), [(2, 4, 7, 9)]),
    "other channels": (lambda: nn.Conv2d(4, 6, 3), [(2, 3, 7, 9)]),
    "one dimension": (lambda: nn.Conv1d(4, 6, 3, padding=2), [(2, 4, 7)]),
    "three dimensions": (lambda: nn.Conv3d(4, 6, 3), [(2, 4, 5, 6, 7)]),
    "max pool": (lambda: nn.MaxPool2d(3, 2, 1), [(2, 4, 7, 9), (4, 7, 9)]),
    "max pool, rounded up": (lambda: nn.MaxPool2d(2, ceil_mode=True), [(2, 4, 7, 9)]),
    "max pool with indices": (lambda: nn.MaxPool2d(2, return_indices=True), [(2, 4, 7, 9)]),
    "adaptive pool": (lambda: nn.AdaptiveAvgPool2d(3), [(2, 4, 7, 9), (4, 7, 9)]),
    "adaptive in one": (lambda: nn.AdaptiveAvgPool2d((None, 2)), [(2, 4, 7, 9)]),
    "batch norm": (lambda: nn.BatchNorm2d(4), [(2, 4, 7, 9), (1, 4, 1, 1), (2, 3, 7, 9)]),
    "batch norm in eval": (lambda: nn.BatchNorm2d(4).eval(), [(1, 4, 1, 1)]),
    "volume norm": (lambda: nn.BatchNorm3d(4), [(2, 4, 3, 3, 3)]),
    "layer norm": (lambda: nn.LayerNorm((5, 4)), [(2, 5, 4), (5, 4), (2, 4, 5)]),
    "rms norm": (lambda: nn.RMSNorm(4), [(2, 5, 4), (2, 4, 5)]),
    "group norm": (lambda: nn.GroupNorm(2, 4), [(2, 4, 5), (2, 6, 5)]),
    "dropout": (lambda: nn.Dropout(0.5), [(2, 3), (0, 3)]),
    "dropout of nothing": (lambda: nn.Dropout(0.0), [(2, 3)]),
    "dropout in eval": (lambda: nn.Dropout(0.5).eval(), [(2, 3)]),
    "dropout in place": (lambda: nn.Dropout(0.5, inplace=True), [(2, 3)]),
    "dropout of channels": (lambda: nn.Dropout2d(0.5), [(2, 3, 4, 4)]),
    **{
        f"{kind.__name__}{' in place' if options else ''}": (
            lambda kind=kind, options=options: kind(**options),
            [(2, 3), ()],
        )
        for kind in (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.Mish, nn.Hardswish)
        for options in ({}, {"inplace": True})
    },
    **{kind.__name__: (kind, [(2, 3), ()]) for kind in (nn.GELU, nn.Sigmoid, nn.Tanh, nn.Softplus)},
}


def said_of(layer, x):
    """What the layer makes of the input: its kind, whether it is new, or that it fails."""
    try:
        made = layer(x)
    except (RuntimeError, ValueError, IndexError):
        return "fails"
    if not isinstance(made, torch.Tensor):
        return [tuple(each.shape) for each in made]
    is_new = made.untyped_storage()._cdata != x.untyped_storage()._cdata
    return tuple(made.shape), made.dtype, made.stride(), is_new


def compared(factory, shape):
    """The rule's answer and the layer's own."""
    with META:
        layer = factory()
    dtype = torch.int64 if isinstance(layer, nn.Embedding) else torch.float32
    x = torch.empty(shape, dtype=dtype, device=META)
    own = said_of(layer, x.clone())
    rule = RULES[type(layer)]
    layer.forward = tracing._by_rule(layer, rule)
    return said_of(layer, x), own


CASES = [(name, shape) for name, (_, shapes) in LAYERS.items() for shape in shapes]


@pytest.mark.parametrize(("name", "shape"), CASES, ids=str)
def test_a_rule_says_what_the_layer_does(name, shape):
    by_rule, own = compared(LAYERS[name][0], shape)
    assert by_rule == own


def test_every_rule_is_compared():
    with META:
        compared_kinds = {type(factory()) for factory, _ in LAYERS.values()}
    derived = {nn.Dropout1d, nn.Dropout3d}  # the same rule as Dropout2d
    assert compared_kinds | derived == set(RULES)


@settings(max_examples=80, deadline=None)
@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.integers(1, 4),
    padding=st.integers(0, 3),
    dilation=st.integers(1, 3),
    pools=st.booleans(),
)
def test_windows_are_counted_as_torch_counts_them(size, kernel, stride, padding, dilation, pools):
    geometry = {"stride": stride, "padding": padding, "dilation": dilation}
    assume(not pools or padding <= min(kernel) // 2)

    def factory():
        return nn.MaxPool2d(kernel, **geometry) if pools else nn.Conv2d(2, 3, kernel, **geometry)

    by_rule, own = compared(factory, (2, 2, *size))
    assert by_rule == own


MODELS = {
    "AlexNet": (AlexNet, (1, 3, 227, 227), torch.float32),
    "ResNet-50": (ResNet50, (2, 3, 64, 64), torch.float32),
    "CoAtNet-0": (coatnet_0, (1, 3, 224, 224), torch.float32),
    "ViT": (ViT, (1, 3, 224, 224), torch.float32),
    "GPT-2": (GPT, (1, 16), torch.int64),
    "LSTM": (lambda: nn.LSTM(4, 6, batch_first=True), (2, 5, 4), torch.float32),
    "encoder": (lambda: nn.TransformerEncoderLayer(8, 2), (5, 2, 8), torch.float32),
    "weight norm": (
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 5)),
        (2, 4),
        torch.float32,
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_table_is_the_same_without_rules(name, monkeypatch):
    factory, shape, dtype = MODELS[name]
    with META:
        model = factory()
    inputs = (torch.empty(shape, dtype=dtype),)
    quickly = tracing.calls_of(model, inputs, {})
    monkeypatch.setattr(tracing, "RULES", {})
    monkeypatch.setattr(tracing, "OPERATOR_RULES", {})
    assert tracing.calls_of(model, inputs, {}) == quickly
    assert len(quickly) > 0


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("name", MODELS)
def test_the_table_is_the_same_where_a_device_is_named(name, device, monkeypatch):
    """The way that is gone where the quick one raises."""
    factory, shape, dtype = MODELS[name]
    with torch.device(device):
        model = factory()
    inputs = ((torch.empty(shape, dtype=dtype, device=device),), {})
    quickly = tracing.calls_of(model, *inputs)
    with torch.enable_grad():
        assert tracing._run_anywhere(model, inputs) == quickly


X, Y = (torch.empty(2, 3, device=META) for _ in range(2))
OPERATORS = [
    *[(name, (X, Y)) for name in ("add_", "sub_", "mul_", "__iadd__", "__isub__", "__imul__")],
    *[(name, (X, Y)) for name in ("add", "sub", "mul", "__add__", "__sub__", "__mul__")],
    ("add", (X, 2.0)),
    ("add", (X, torch.empty(3, device=META))),
    ("add_", (X, torch.empty(3, device=META))),
    ("add", (X, torch.empty(2, 3, device=META, dtype=torch.float64))),
    ("add", (X, torch.empty(3, 2, device=META).T)),
]


@pytest.mark.parametrize(("name", "operands"), OPERATORS)
def test_an_operators_rule_says_what_it_does(name, operands):
    x, other = operands
    function = getattr(torch.Tensor, name)
    assert function in OPERATOR_RULES
    own = function(x, other)
    with tracing._Quickly(META):
        made = function(x, other)
    assert (made.shape, made.dtype, made.stride()) == (own.shape, own.dtype, own.stride())
    assert (made is x) == (own is x)


@pytest.mark.parametrize(
    ("key", "value", "options"),
    [
        ((2, 4, 5, 8), (2, 4, 5, 6), {}),
        ((2, 4, 5, 8), (2, 4, 5, 6), {"is_causal": True, "dropout_p": 0.1}),
        ((2, 2, 5, 8), (2, 2, 5, 8), {"enable_gqa": True}),
        ((2, 4, 5, 8), (2, 4, 5, 8), {"attn_mask": torch.empty(3, 5, device=META)}),
    ],
)
def test_attentions_rule_says_what_it_makes(key, value, options):
    tensors = [torch.empty(shape, device=META) for shape in ((2, 4, 3, 8), key, value)]
    attention = nn.functional.scaled_dot_product_attention
    own = attention(*tensors, **options)
    with tracing._Quickly(META):
        made = attention(*tensors, **options)
    assert (made.shape, made.dtype) == (own.shape, own.dtype)
