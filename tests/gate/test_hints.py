"""Hints: each is provoked by running its cause through the simulator, and absent without it."""

import copy
import io
import json
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from pytest_memreq.gate.hints import RULES, describe_hint, hints
from pytest_memreq.requirement import Breakdown, Finding, Peak, Site, Work
from pytest_memreq.simulate import simulate

MIB = 2**20
CUDA = "cuda"
DOCUMENT = (Path(__file__).parent.parent.parent / "docs" / "hints.md").read_text(encoding="utf-8")


def words(step, **options):
    return [hint.word for hint in hints(simulate(step, **options))]


def mlp(layers=6, width=512):
    return nn.Sequential(
        *(part for _ in range(layers) for part in (nn.Linear(width, width), nn.ReLU()))
    )


def batch(rows=8192, width=512):
    return torch.randn(rows, width, device=CUDA)


def forward(no_grad=None, *, is_frozen=False):
    model = mlp().cuda().requires_grad_(not is_frozen)
    with (no_grad or torch.enable_grad)():
        model(batch())


def forward_and_backward():
    mlp().cuda()(batch()).mean().backward()


def keep(kept_of, *, backward=None, steps=4):
    """A loop that keeps something of each step."""
    model = mlp().cuda()
    optimizer = torch.optim.SGD(model.parameters())
    kept = []
    for _ in range(steps):
        out = model(batch(2048))
        loss = out.mean()
        if backward is not None:
            loss.backward(**backward)
            optimizer.step()
            optimizer.zero_grad()
        kept.append(kept_of(out, loss))


def large_predictions_kept():
    model = nn.Linear(64, 4096).cuda()
    optimizer = torch.optim.SGD(model.parameters())
    kept = []
    for _ in range(4):
        out = model(batch(2048, 64))
        out.mean().backward()
        optimizer.step()
        kept.append(out.detach())


def pairs_alive_in_the_optimizers_step():
    model = mlp(4, 2048).cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    first, second = model(batch(4096, 2048)), model(batch(4096, 2048))
    (first - second).mean().backward(retain_graph=True)
    optimizer.step()


def pairs_before_one_backward():
    model = mlp().cuda()
    optimizer = torch.optim.SGD(model.parameters())
    for _ in range(3):
        (model(batch(2048)) - model(batch(2048))).mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def gradients_added_up():
    model = mlp().cuda()
    optimizer = torch.optim.SGD(model.parameters())
    for _ in range(4):
        model(batch(2048)).mean().backward()
    optimizer.step()


def penalty_on_gradients():
    model = mlp().cuda()
    optimizer = torch.optim.SGD(model.parameters())
    for _ in range(2):
        real, x = model(batch(2048)).mean(), batch(2048).requires_grad_()
        (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        (real + slope.norm()).backward()
        optimizer.step()
        optimizer.zero_grad()


def language_model(dtype, logits_of=lambda logits: logits, *, autocast=False, vocabulary=32000):
    embed = nn.Embedding(vocabulary, 256, device=CUDA, dtype=dtype)
    head = nn.Linear(256, vocabulary, bias=False, device=CUDA, dtype=dtype)
    tokens = torch.randint(0, vocabulary, (4, 512), device=CUDA)
    with torch.autocast(CUDA, torch.bfloat16, enabled=autocast):
        logits = logits_of(head(embed(tokens)).flatten(0, 1))
        loss = functional.cross_entropy(logits, tokens.flatten())
    loss.backward()


def norms_in_float32():
    """Wide activations in float32 within a model of 16 bits, and a loss over a few classes."""
    wide = nn.Linear(64, 4096, device=CUDA, dtype=torch.bfloat16)
    head = nn.Linear(4096, 10, device=CUDA, dtype=torch.bfloat16)
    x = wide(torch.randn(2048, 64, device=CUDA, dtype=torch.bfloat16))
    x = functional.layer_norm(x.float(), (4096,)).bfloat16()
    classes = torch.zeros(2048, dtype=torch.int64, device=CUDA)
    functional.cross_entropy(head(x).float(), classes).backward()


def train(zero_grad=None, *, steps=3, width=2048, rows=16, **optimizer):
    model = mlp(4, width).cuda()
    adam = torch.optim.AdamW(model.parameters(), **optimizer)
    for _ in range(steps):
        adam.zero_grad(**(zero_grad or {}))
        model(batch(rows, width)).mean().backward()
        adam.step()


def train_by_sgd(zero=lambda optimizer: optimizer.zero_grad(), steps=3):
    """Its peak is in the forward and backward work, not in the optimizer's."""
    model = mlp(4, 2048).cuda()
    optimizer = torch.optim.SGD(model.parameters(), foreach=False)
    for _ in range(steps):
        zero(optimizer)
        model(batch(512, 2048)).mean().backward()
        optimizer.step()


def load(place):
    model = mlp(4, 2048)
    state = {name: value.to(place) for name, value in model.state_dict().items()}
    model = model.cuda()
    model.load_state_dict(state)
    with torch.no_grad():
        model(batch(16, 2048))


def load_from_file():
    model, file = mlp(4, 2048), io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    state = torch.load(file, map_location=CUDA)
    model = model.cuda()
    model.load_state_dict(state)
    with torch.no_grad():
        model(batch(16, 2048))


def master_weights():
    model = mlp(4, 2048).cuda().bfloat16()
    masters = [parameter.detach().float() for parameter in model.parameters()]
    with torch.no_grad():
        model(batch(16, 2048).bfloat16())
    return masters


def inputs_shaped_as_a_weight():
    with torch.no_grad():
        mlp(4, 2048).cuda()(batch(2048, 2048))


def averaged_weights():
    model = mlp(4, 2048).cuda()
    optimizer = torch.optim.SGD(model.parameters(), foreach=False)
    average = copy.deepcopy(model)
    for _ in range(2):
        model(batch(16, 2048)).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return average


def autocast():
    with torch.autocast(CUDA, torch.bfloat16):
        mlp(4, 2048).cuda()(batch(16, 2048)).mean().backward()


def attend(*shape, dtype=torch.bfloat16):
    query = torch.randn(*shape, device=CUDA, dtype=dtype, requires_grad=True)
    functional.scaled_dot_product_attention(query, query, query).sum().backward()


def attend_by_hand():
    query = torch.randn(8, 2048, 64, device=CUDA, requires_grad=True)
    (torch.softmax(query @ query.mT, -1) @ query).sum().backward()


def holes():
    kept = []
    for size in range(10, 50):
        block = torch.empty(size * MIB, dtype=torch.uint8, device=CUDA)
        kept.append(torch.empty(2 * MIB, dtype=torch.uint8, device=CUDA))
        del block


PROVOKED = [
    ("no_grad", forward),
    ("no_grad", lambda: keep(lambda out, _: out)),
    ("kept_graph", lambda: keep(lambda _, loss: loss)),
    ("kept_graph", lambda: keep(lambda _, loss: loss, backward={"retain_graph": True})),
    ("float32_logits", lambda: language_model(torch.bfloat16, lambda logits: logits.float())),
    ("float32_logits", lambda: language_model(torch.float32, autocast=True)),
    ("foreach", train),
    ("kept_gradients", lambda: train_by_sgd(lambda o: o.zero_grad(set_to_none=False))),
    ("weights_twice", lambda: load(CUDA)),
    ("weights_twice", load_from_file),
    ("math_attention", lambda: attend(1, 8, 2048, 64, dtype=torch.float64)),
    ("fragmentation", holes),
]
HEALTHY = [
    ("no_grad", lambda: forward(torch.no_grad)),
    ("no_grad", lambda: forward(torch.inference_mode)),
    ("no_grad", lambda: forward(is_frozen=True)),
    ("no_grad", forward_and_backward),
    ("kept_graph", lambda: keep(lambda _, loss: loss.item(), backward={})),
    ("kept_graph", lambda: keep(lambda out, _: out.detach(), backward={})),
    ("kept_graph", lambda: keep(lambda _, loss: loss.detach())),
    ("kept_graph", large_predictions_kept),
    ("kept_graph", pairs_before_one_backward),
    ("kept_graph", pairs_alive_in_the_optimizers_step),
    ("kept_graph", gradients_added_up),
    ("kept_graph", penalty_on_gradients),
    ("float32_logits", lambda: language_model(torch.float32)),
    ("float32_logits", lambda: language_model(torch.bfloat16)),
    ("float32_logits", norms_in_float32),
    ("foreach", lambda: train(fused=True)),
    ("foreach", lambda: train(foreach=False)),
    ("foreach", lambda: train(rows=65536, width=256)),
    ("kept_gradients", train_by_sgd),
    ("kept_gradients", lambda: train_by_sgd(lambda _: torch.ones(2**20, device=CUDA).zero_())),
    ("kept_gradients", lambda: train({"set_to_none": False})),  # its peak is in the optimizer
    ("weights_twice", lambda: load("cpu")),
    ("weights_twice", master_weights),
    ("weights_twice", averaged_weights),
    ("weights_twice", autocast),
    ("weights_twice", inputs_shaped_as_a_weight),
    ("weights_twice", train),
    ("math_attention", lambda: attend(1, 8, 2048, 64)),
    ("math_attention", attend_by_hand),
    ("fragmentation", train),
]


@pytest.mark.parametrize(("word", "step"), PROVOKED)
def test_the_cause_brings_the_hint(word, step):
    assert word in words(step)


@pytest.mark.parametrize(("word", "step"), HEALTHY)
def test_without_the_cause_there_is_no_hint(word, step):
    assert word not in words(step)


def test_segments_that_grow_leave_no_holes():
    assert "fragmentation" not in words(holes, allocator="expandable_segments:True")


def test_a_kernel_that_the_card_lacks_is_noticed():
    """Efficient attention does not take bfloat16 before Ampere, nor does flash attention."""
    assert "math_attention" in words(lambda: attend(1, 8, 2048, 64), gpu="Tesla T4")


def test_every_rule_is_provoked_and_has_a_healthy_twin():
    table = {rule.word for rule in RULES} - {"left_by_tests"}  # which needs several tests
    assert {word for word, _ in PROVOKED} == {word for word, _ in HEALTHY} == table


def test_the_evidence_is_in_bytes_and_of_the_peak():
    simulation = simulate(forward)
    (hint,) = hints(simulation)
    share = f"{117_440_512 / simulation.peak.allocated_bytes:.0%}"  # torch differs in workspaces
    assert hint.evidence == (
        f"112.00 MiB (117,440,512 bytes), {share} of the peak, was made in modules while autograd "
        "recorded 18 operations, and nothing called backward"
    )
    shown = re.escape(f"hint (no_grad): {hint.evidence}\n").replace(share, r"\d+%")
    assert re.search(shown, DOCUMENT)
    assert describe_hint(hint)[1] == (
        "  where no gradients are wanted, run it under torch.no_grad() or torch.inference_mode()"
    )


SUITE = """
import pytest, torch

KEPT = []

def zeros(mib):
    return torch.zeros(mib * 2**20, dtype=torch.uint8, device="cuda")

@pytest.fixture(scope="session")
def weights():
    return zeros(64)

@pytest.mark.max_gpu_memory("1 GiB")
def test_1_leaves():
    {left}

@pytest.mark.max_gpu_memory("1 GiB")
def test_2_uses_a_fixture(weights):
    zeros(8)

@pytest.mark.max_gpu_memory("1 GiB")
def test_3():
    zeros(8)
"""


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        ("KEPT.append(zeros(32))", ["left_by_tests"]),
        ("zeros(32)", []),  # the fixture of another test is no leak
    ],
)
def test_what_another_test_left_is_named(pytester, left, expected):
    pytester.makepyfile(test_a=SUITE.format(left=left))
    pytester.runpytest("--memreq=simulate", "--memreq-report")
    report = json.loads((pytester.path / "memreq-report" / "memreq.json").read_text())
    test = report["tests"][-1]
    held_by = tuple((held["who"], held["bytes"]) for held in test["held_by"])
    assert held_by
    finding = Finding(
        peak=Peak(**test["peak"]),
        absolute_peak=Peak(**test["absolute_peak"]),
        did_allocate=True,
        held_by=held_by,
    )
    found = hints(finding)
    assert [hint.word for hint in found] == expected
    if expected:
        assert found[0].evidence == (
            "32.00 MiB (33,554,432 bytes) beside the peak were left by other tests: 32.00 MiB by "
            "test_a.py::test_1_leaves"
        )


def test_a_fixture_of_a_class_is_no_test():
    held_by = (("fixture weights of test_a.py::TestIt", 64 * MIB),)
    finding = Finding(peak=Peak(allocated_bytes=MIB), did_allocate=True, held_by=held_by)
    assert hints(finding) == ()


def test_without_facts_there_are_no_hints():
    """As of a test that was measured without a history."""
    finding = Finding(
        peak=Peak(allocated_bytes=100 * MIB, reserved_bytes=110 * MIB),
        did_allocate=True,
        breakdown=Breakdown(activations_bytes=100 * MIB),
    )
    assert hints(finding) == ()


SIZES = st.none() | st.integers(0, 2**40)
SITES = st.builds(
    Site,
    bytes=st.integers(0, 2**40),
    category=st.sampled_from(["parameters", "inputs", "temporaries", "other"]),
    module=st.none() | st.just("head"),
    operator=st.none() | st.sampled_from(["aten._safe_softmax", "aten._log_softmax", "aten.mm"]),
    shape=st.none() | st.lists(st.integers(0, 3), max_size=3).map(tuple),
    dtype=st.none() | st.sampled_from(["float32", "bfloat16"]),
    count=st.integers(1, 3),
)


@given(
    st.builds(
        Finding,
        peak=st.builds(Peak, allocated_bytes=SIZES, reserved_bytes=SIZES),
        absolute_peak=st.none() | st.builds(Peak, allocated_bytes=SIZES),
        did_allocate=st.booleans(),
        sites=st.lists(SITES, max_size=5).map(tuple),
        held_by=st.just(()) | st.just((("a.py::test_a", 2**30), ("fixture a", 5))),
        work=st.none() | st.builds(Work, recorded_bytes=st.integers(0, 2**40)),
    )
)
def test_any_finding_can_be_asked(finding):
    for hint in hints(finding):
        assert hint.evidence
        assert "\n" not in hint.evidence + hint.advice
