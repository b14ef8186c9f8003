"""The layer table of real modules, and that the user's module stays as it was."""

import itertools
import logging
from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from pytest_memreq.errors import MemreqError
from pytest_memreq.estimate import estimate
from tests.estimate import alexnet


def table(model, *inputs):
    """(name, activations, parameters) of each row."""
    rows = estimate(model, *inputs).layers
    return [(row.name, row.activation_elements, row.parameter_elements) for row in rows]


@pytest.fixture(scope="module")
def tower():
    with torch.device("meta"):
        return alexnet.one_tower()


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_alexnet_is_the_documents_row_for_row(tower, batch, device):
    needed = estimate(tower, torch.empty(batch, 3, 227, 227, device=device))
    rows = [
        (r.name, r.output_shape, r.activation_elements, r.weight_elements, r.bias_elements)
        for r in needed.layers
    ]
    assert rows == list(alexnet.TABLE)
    assert sum(row.parameter_elements for row in needed.layers) == alexnet.PARAMETERS
    assert sum(row.activation_elements for row in needed.layers) == alexnet.ACTIVATIONS
    assert needed.total_bytes == alexnet.TOTAL_BYTES
    assert needed.breakdown.inputs_bytes == needed.breakdown.buffers_bytes == 0
    assert needed.breakdown.temporaries_bytes is None


def test_batch_size_multiplies_the_activations_alone(tower):
    one, eight = (estimate(tower, torch.empty(1, 3, 227, 227), batch_size=n) for n in (1, 8))
    assert eight.layers == one.layers
    assert eight.total_bytes - one.total_bytes == 7 * 4 * alexnet.ACTIVATIONS


def test_without_inputs_activations_are_not_known(tower):
    needed = estimate(tower)
    assert needed.breakdown.activations_bytes is None
    assert needed.breakdown.inputs_bytes is None
    assert needed.layers == ()
    assert needed.total_bytes == 20 * alexnet.PARAMETERS


SAME_STORAGE = {
    "in place": nn.ReLU(inplace=True),
    "identity": nn.Identity(),
    "view": nn.Flatten(),
    "dropout in eval": nn.Dropout().eval(),
}


@pytest.mark.parametrize("layer", SAME_STORAGE.values(), ids=SAME_STORAGE)
def test_an_output_in_its_inputs_storage_makes_no_row(layer):
    model = nn.Sequential(nn.Linear(4, 6), layer)
    assert table(model, torch.ones(2, 4)) == [("Input", 4, 0), ("0", 6, 30)]


def test_a_layer_in_place_on_what_no_layer_made_makes_no_row():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.line = nn.Linear(4, 4)
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x):
            return self.relu(self.line(x) + x)

    assert table(Residual(), torch.ones(2, 4)) == [("Input", 4, 0), ("line", 4, 20)]


@pytest.mark.parametrize("layer", [nn.ReLU(), nn.Dropout()], ids=["relu", "dropout in training"])
def test_an_output_of_its_own_makes_a_row(layer):
    model = nn.Sequential(nn.Linear(4, 6), layer)
    assert table(model, torch.ones(2, 4))[2:] == [("1", 6, 0)]


def test_a_layer_used_twice_has_two_rows_and_its_parameters_once():
    layer = nn.Linear(4, 4)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    assert table(model, torch.ones(1, 4))[1:] == [("0", 4, 20), ("1", 4, 0), ("0", 4, 0)]


def test_tied_weights_count_once():
    first, last = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    last.weight = first.weight
    needed = estimate(nn.Sequential(first, last), torch.ones(1, 4))
    assert needed.breakdown.parameters_bytes == 2 * 16
    assert [row.parameter_elements for row in needed.layers] == [0, 16, 0]


def test_frozen_parameters_have_no_gradient_and_no_states():
    model = nn.Sequential(nn.Linear(4, 4, bias=False).requires_grad_(False), nn.Linear(4, 1))
    breakdown = estimate(model).breakdown
    assert breakdown.parameters_bytes == 2 * (16 + 5)
    assert breakdown.gradients_bytes == 2 * 5
    assert breakdown.optimizer_states_bytes == 16 * 5


def test_buffers_count_at_their_own_size_and_once():
    model = nn.Module()
    model.register_buffer("halves", torch.zeros(10, dtype=torch.float16))
    model.register_buffer("longs", torch.zeros(3, dtype=torch.int64), persistent=False)
    model.register_buffer("again", model.halves)
    assert estimate(model).breakdown.buffers_bytes == 10 * 2 + 3 * 8


class Tokens(nn.Module):
    """Parameters of a container's own, an embedding, a layer that is never called."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(100, 8)
        self.positions = nn.Parameter(torch.zeros(5, 8))
        self.shift_bias = nn.Parameter(torch.zeros(8))
        self.out = nn.Linear(8, 3)
        self.spare = nn.Linear(7, 7)

    def forward(self, tokens, *, scale=1.0):
        return {"logits": self.out(self.words(tokens) * scale + self.positions + self.shift_bias)}


def test_parameters_outside_the_called_layers_have_rows_too():
    rows = estimate(Tokens(), torch.zeros(2, 5, dtype=torch.int64)).layers
    assert [(r.name, r.kind, r.activation_elements, r.weight_elements) for r in rows] == [
        ("Input", "Input", 5, 0),
        ("words", "Embedding", 40, 800),
        ("out", "Linear", 15, 24),
        ("Tokens", "Tokens", 0, 40),
        ("spare", "Linear", 0, 49),
    ]
    assert rows[3].bias_elements == 8


MODELS = {
    "recurrent": (nn.LSTM(4, 6, batch_first=True), (2, 5, 4)),
    "attention": (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (2, 5, 8)),
    "attention in eval": (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval(), (2, 5, 8)),
    "norm": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), (2, 3, 8, 8)),
    "weight norm": (nn.utils.parametrizations.weight_norm(nn.Linear(4, 5)), (2, 4)),
    "one layer": (nn.Linear(4, 5), (2, 4)),
}


@pytest.mark.parametrize(("model", "shape"), MODELS.values(), ids=MODELS)
def test_sums_of_rows_are_the_totals(model, shape):
    needed = estimate(model, torch.ones(shape))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    activations = sum(row.activation_elements for row in needed.layers)
    assert sum(row.parameter_elements for row in needed.layers) == parameters
    assert needed.breakdown.parameters_bytes == 2 * parameters
    assert needed.breakdown.activations_bytes == 4 * activations
    assert activations > sum(row.activation_elements for row in needed.layers[:1])


def test_a_layers_several_outputs_are_one_row():
    """An LSTM gives its outputs, 5 x 6, and the last two states, 6 each."""
    rows = estimate(nn.LSTM(4, 6, batch_first=True), torch.ones(2, 5, 4)).layers
    assert (rows[1].output_shape, rows[1].activation_elements) == ((5, 6), 30 + 12)


def test_a_parametrized_layer_is_a_layer_and_its_parametrization_is_none():
    rows = table(nn.utils.parametrizations.weight_norm(nn.Linear(4, 5)), torch.ones(2, 4))
    assert [activations for _, activations, _ in rows if activations] == [4, 5]


@settings(max_examples=25, deadline=None)
@given(
    widths=st.lists(st.integers(1, 9), min_size=2, max_size=4),
    batch=st.integers(1, 4),
    in_place=st.booleans(),
)
def test_a_perceptrons_table_is_what_its_widths_say(widths, batch, in_place):
    layers = [
        layer
        for wide, narrow in itertools.pairwise(widths)
        for layer in (nn.Linear(wide, narrow), nn.ReLU(inplace=in_place))
    ]
    needed = estimate(nn.Sequential(*layers), torch.ones(batch, widths[0]))
    activations = widths[0] + sum(widths[1:]) * (1 if in_place else 2)
    parameters = sum((w + 1) * n for w, n in itertools.pairwise(widths))
    assert needed.total_bytes == 20 * parameters + 4 * activations


def test_structures_of_inputs_each_have_a_row():
    class Sum(nn.Module):
        def forward(self, pair, named):
            return pair[0] + pair[1] + named["third"]

    one = torch.ones(2, 4)
    rows = estimate(Sum(), (one, one.clone()), {"third": one.clone()}).layers
    assert [(row.name, row.activation_elements) for row in rows] == [
        *[("Input", 4)] * 3,
        ("Sum", 4),
    ]


class Both(nn.Module):
    """A tensor, a tuple and a mapping by position, another by its name."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(4, 6)

    def forward(self, x, pair, named, *, bias=None, scale=2.0):
        return self.line(x + pair[0] * named["weight"]) * scale + bias


def test_tensors_tuples_mappings_and_keywords_go_where_they_belong():
    x, wide = torch.ones(2, 4), torch.ones(2, 6)
    keywords = {"bias": wide, "scale": 3.0}
    needed = estimate(Both(), x, (x.clone(),), {"weight": x.clone()}, keyword_inputs=keywords)
    rows = [(row.name, row.activation_elements) for row in needed.layers]
    assert rows == [*[("Input", 4)] * 3, ("Input", 6), ("line", 6)]
    alone = estimate(nn.Linear(4, 6), keyword_inputs={"input": x})
    assert alone == estimate(nn.Linear(4, 6), x)
    with pytest.raises(MemreqError, match="Both does not run on these inputs: TypeError"):
        estimate(Both(), x, keyword_inputs={"bais": wide})


def test_tensors_made_in_forward_or_kept_as_attributes_work():
    class Made(nn.Module):
        def __init__(self):
            super().__init__()
            self.kept = torch.arange(5)
            self.words = nn.Embedding(5, 2)

        def forward(self, x):
            return self.words(torch.arange(5)) + self.words(self.kept) + x + torch.ones(2)

    assert [name for name, *_ in table(Made(), torch.ones(1, 5, 2))] == ["Input", "words", "words"]


def state_of(model):
    """All that forward could change: what each module holds, and the values."""
    held = [
        (module.training, dict(module._forward_hooks), {k: id(v) for k, v in vars(module).items()})
        for module in model.modules()
    ]
    return held, {key: (id(t), t.tolist()) for key, t in model.state_dict(keep_vars=True).items()}


class Counting(nn.Module):
    """Changes itself in forward in every way: a number, a cache, running statistics; may raise."""

    def __init__(self, raises):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 2).eval()
        self.raises = raises
        self.calls = 0
        self.cache = None
        self.seen = []

    def forward(self, x):
        self.calls += 1
        self.cache = self.norm(x)
        self.seen.append(x)
        if self.raises:
            raise KeyError("no\nsuch thing")
        return self.head(self.cache)


@pytest.mark.parametrize("raises", [False, True])
def test_the_users_model_and_inputs_stay_as_they_were(raises):
    model, x = Counting(raises), torch.rand(8, 4)
    heard = []
    model.norm.register_forward_hook(lambda *_: heard.append(1))
    model.register_forward_pre_hook(lambda *_: heard.append(2))
    before, x_before, random = state_of(model), x.clone(), torch.get_rng_state()
    try:
        estimate(model, x)
    except MemreqError:
        assert raises
    assert state_of(model) == before
    assert model.calls == 0
    assert model.seen == heard == []
    assert torch.equal(x, x_before)
    assert torch.equal(torch.get_rng_state(), random)


def test_a_forward_that_raises_is_one_line_with_module_and_cause(caplog, capfd):
    with pytest.raises(MemreqError) as error:
        estimate(Counting(raises=True), torch.rand(8, 4))
    assert str(error.value).startswith("Counting does not run on these inputs: KeyError: ")
    assert "\n" not in str(error.value)

    with pytest.raises(MemreqError, match=r"^Linear does not run on these inputs: "):
        estimate(nn.Linear(4, 2), torch.rand(8, 5))
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")
    assert not logging.getLogger("torch._subclasses.fake_tensor").disabled


@pytest.mark.parametrize(
    ("model", "inputs", "said"),
    [
        (nn.Embedding(7, 3), (torch.zeros(0, dtype=torch.int64),), "is 0; give one sample"),
        (nn.LazyLinear(3), (torch.ones(1, 2),), "LazyLinear has lazy layers without shapes"),
        (nn.LazyBatchNorm1d(), (), "LazyBatchNorm1d has lazy layers without shapes"),
        (
            nn.Bilinear(3, 3, 1),
            (torch.ones(2, 3), torch.ones(1, 3)),
            "Input has shape .* batch of 2",
        ),
    ],
)
def test_what_cannot_be_counted_is_an_error(model, inputs, said):
    with pytest.raises(MemreqError, match=said):
        estimate(model, *inputs)


def test_an_output_that_is_no_multiple_of_the_batch_is_explained():
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(5, 3)

        def forward(self, x):
            return x + self.words(torch.arange(5))

    model = Positions()
    with pytest.raises(MemreqError, match=r"words has shape \(5, 3\), .* batch of 2 .* one sample"):
        estimate(model, torch.ones(2, 5, 3))
    assert table(model, torch.ones(1, 5, 3))[1:] == [("words", 15, 15)]


def test_batch_and_sequence_in_one_dimension_or_swapped():
    model = nn.Sequential(
        OrderedDict(merge=nn.Flatten(0, 1), line=nn.Linear(4, 6), part=nn.Unflatten(0, (7, -1)))
    )
    shapes = [row.output_shape for row in estimate(model, torch.ones(3, 7, 4)).layers]
    assert shapes == [(7, 4), (7, 6)]
    recurrent = nn.Sequential(OrderedDict(swap=Swap(), line=nn.Linear(4, 6)))
    assert estimate(recurrent, torch.ones(3, 7, 4)).layers[1].output_shape == (7, 6)


class Swap(nn.Module):
    def forward(self, x):
        return x.transpose(0, 1)


def test_devices_named_in_forward_make_no_difference():
    class Named(nn.Module):
        def forward(self, x):
            return x.to("cpu") + torch.zeros(4, device="cpu") + torch.ones(4, device=x.device)

    assert table(Named(), torch.ones(1, 4, device="meta"))[1:] == [("Named", 4, 0)]


def test_a_mode_around_it_sees_no_operator():
    """A counter of what is allocated, say, must not count what is only estimated."""

    class Listening(TorchDispatchMode):
        heard = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.heard += 1
            return func(*args, **(kwargs or {}))

    model, x = nn.Linear(4, 2), torch.ones(1, 4)
    with Listening() as listening:
        assert table(model, x) == [("Input", 4, 0), ("Linear", 2, 10)]
    assert listening.heard == 0


def test_a_wide_layer_is_not_computed():
    """Weights of a petabyte, on meta: a computation or a copy of values would not end well."""
    model = nn.Linear(2**24, 2**24, device="meta")
    assert estimate(model, torch.empty(1, 2**24, device="meta")).total_bytes > 20 * 2**48
