"""What is remembered of operators changes nothing: the same events with and without."""

from itertools import product

import pytest
import torch
from torch import nn

from benchmarks.operator_scripts import SMALL_SCRIPTS
from pytest_memreq.simulate import shapes, simulate


def events(step):
    simulation = simulate(step)
    return simulation.timeline, simulation.peak


@pytest.fixture
def nothing_remembered(monkeypatch):
    def forget():
        monkeypatch.setattr(shapes.Shapes, "call", run)

    return forget


def run(_shapes, func, _operator, args, kwargs):
    return func(*args, **kwargs)


@pytest.mark.parametrize("name", SMALL_SCRIPTS)
def test_the_same_events_with_and_without(name, nothing_remembered):
    remembered = events(SMALL_SCRIPTS[name])
    nothing_remembered()
    assert events(SMALL_SCRIPTS[name]) == remembered


def test_lists_of_tensors_of_many_shapes_give_each_its_own(nothing_remembered):
    def step():
        some = [
            torch.ones(size, dtype=dtype, device="cuda")
            for size, dtype in product([3, 700, 700, 3], [torch.float32, torch.float16])
        ]
        made = torch._foreach_add(some, torch._foreach_sqrt(some))
        assert [(t.shape, t.dtype) for t in made] == [(t.shape, t.dtype) for t in some]
        torch._foreach_mul_(made, [float(at) for at in range(len(made))])
        norms = torch._foreach_norm(made)
        assert all(norm.shape == () for norm in norms)

    remembered = events(step)
    nothing_remembered()
    assert events(step) == remembered


def test_lists_whose_shapes_do_not_agree_are_refused():
    def step():
        torch._foreach_add_([torch.ones(3, device="cuda")] * 2, [torch.ones(4, device="cuda")] * 2)

    with pytest.raises(RuntimeError, match="broadcast"):
        simulate(step)


def test_a_result_that_is_an_argument_stays_one():
    def step():
        layer, x = nn.Dropout(0.0), torch.ones(1000, device="cuda")
        before = torch.cuda.memory_allocated()
        kept = [
            x.contiguous().to("cuda"),
            x.expand(1000),
            torch.ops.aten.native_dropout(x, 0, False),
        ]
        first = torch.cuda.memory_allocated() - before
        kept += [
            x.contiguous().to("cuda"),
            x.expand(1000),
            torch.ops.aten.native_dropout(x, 0, False),
        ]
        assert torch.cuda.memory_allocated() - before == 2 * first
        del layer, kept

    simulate(step)


def test_copies_between_devices_in_lists_really_copy():
    def step():
        here = [torch.zeros(3), torch.zeros(3)]
        torch._foreach_copy_(here, [torch.ones(3), torch.full((3,), 2.0)])
        assert [t.tolist() for t in here] == [[1] * 3, [2] * 3]

    simulate(step)
