"""What is known of numbers on the pretended card is what the CPU says, whatever writes to them."""

import math

import pytest
import torch
from torch import distributed, nn

from pytest_memreq.simulate import simulate


def asked(step):
    """What `step` gives on the pretended card, and whether any of it was made up."""
    found = []
    pretended = simulate(lambda: found.append(step())).pretended
    return found[0], bool(pretended)


def a_part_filled(d):
    tensor = torch.ones(3, device=d)
    tensor[1:].fill_(1)
    return tensor


KNOWN = {
    "ones": lambda d: torch.all(torch.ones(2, 3, device=d) == 1),
    "none that is not one": lambda d: (torch.ones(2, 3, device=d) != 1).any(),
    "zeros": lambda d: torch.zeros(3, device=d).any(),
    "full": lambda d: torch.full((3,), 7, device=d),
    "new": lambda d: torch.ones(2, device=d).new_full((2,), 2.5),
    "like a tensor": lambda d: torch.zeros_like(torch.ones(2, device=d)),
    "like one of the CPU": lambda d: torch.ones_like(torch.zeros(2), device=d),
    "infinite": lambda d: torch.full((2,), -math.inf, device=d) < 0,
    "rounded": lambda d: torch.full((), 0.1, device=d),
    "the least of a type": lambda d: torch.full((), -65504.0, dtype=torch.half, device=d),
    "compared as its type": lambda d: torch.full((), 0.1, device=d) == 0.1,
    "compared with another type": lambda d: (
        torch.ones(2, device=d).half() == torch.ones(2, dtype=torch.int64, device=d)
    ),
    "cut off": lambda d: torch.full((), 2.9, device=d).int(),
    "a number": lambda d: torch.tensor(5, device=d),
    "a number in lists": lambda d: torch.tensor([[5]], device=d),
    "a truth": lambda d: torch.tensor(True, device=d).float(),
    "a mask of the CPU": lambda d: (torch.ones(2, 9).long().to(d) == 1).all(),
    "a mask put in": lambda d: torch.empty(4, dtype=torch.bool, device=d).copy_(torch.ones(4) > 0),
    "both": lambda d: (torch.ones(2, device=d) > 0) & (torch.ones(2, device=d) > 1),
    "both, one a number": lambda d: (torch.ones(2, device=d) > 0) & False,
    "either": lambda d: (torch.ones(2, device=d) > 1) | (torch.ones(2, device=d) > 0),
    "not": lambda d: torch.zeros(3, device=d).logical_not(),
    "filled": lambda d: torch.empty(4, device=d).fill_(3).view(2, 2)[0],
    "filled by a tensor": lambda d: torch.empty(4, device=d).fill_(torch.ones((), device=d)),
    "zeroed": lambda d: torch.ones(2, device=d).zero_(),
    "copied": lambda d: torch.empty(3, device=d).copy_(torch.ones(3, device=d)).clone(),
    "a part, the rest is alike": a_part_filled,
    "sums": lambda d: torch.ones(2, device=d).sum(),
    "several": lambda d: torch.tensor([0, 1]).to(d),
    "rounded by torch": lambda d: torch.full((), 0.1, dtype=torch.bfloat16, device=d),
    "alike, of what is not known": lambda d: torch.ones_like(torch.randn(2, device=d)),
    "of the CPU by a shape": lambda d: torch.ones_like(torch.empty(2, device=d), device="cpu"),
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_tensor_of_one_number_is_known(name):
    on_card, was_made_up = asked(lambda: KNOWN[name]("cuda").tolist())
    assert (on_card, was_made_up) == (KNOWN[name]("cpu").tolist(), False)


@pytest.mark.parametrize("name", KNOWN)
def test_every_way_to_look_gives_the_same(name):
    def step():
        tensor = KNOWN[name]("cuda")
        first = tensor.flatten()[0]
        return first.item(), tensor.cpu().flatten()[0].item(), torch.empty(()).copy_(first).item()

    (item, on_cpu, copied), was_made_up = asked(step)
    assert (item, float(item), was_made_up) == (on_cpu, copied, False)
    assert type(item) is type(on_cpu)


def written_as_another_type():
    buffer = torch.empty(8, dtype=torch.uint8, device="cuda")
    buffer.view(torch.float32).fill_(1)
    return buffer


UNKNOWN = {
    "random": lambda: torch.randn(2, device="cuda"),
    "a view as another type": lambda: torch.ones(2, device="cuda").view(torch.int32),
    "parameters of the CPU": lambda: torch.ones(2).cuda(),
    "much of the CPU": lambda: torch.ones(2**20, dtype=torch.int64).cuda(),
    "complex": lambda: torch.ones(2, dtype=torch.complex64, device="cuda"),
    "compared with what is not known": lambda: (
        torch.ones(2, device="cuda") == torch.randn(2, device="cuda")
    ),
    "written as another type": written_as_another_type,
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_is_said_to_be_made_up(name):
    _, was_made_up = asked(lambda: UNKNOWN[name]().tolist())
    assert was_made_up


def train(weight):
    weight.requires_grad_()
    optimizer = torch.optim.SGD([weight], lr=1.0)
    weight.sum().backward()
    optimizer.step()
    weight.requires_grad_(False)


def normalize(mean):
    d = mean.device
    nn.functional.batch_norm(
        torch.ones(4, 2, device=d), mean, torch.ones(2, device=d), training=True
    )


def add_gradients(tensor):
    weight = torch.zeros(2, device=tensor.device, requires_grad=True)
    weight.grad = tensor
    weight.sum().backward()


class OfOnes(torch.autograd.Function):
    @staticmethod
    def forward(_ctx, tensor):
        return tensor.clone()

    @staticmethod
    def backward(_ctx, grad):
        return torch.ones_like(grad)


def add_up_in_place(tensor):
    weight = torch.zeros(2, device=tensor.device, requires_grad=True)
    (OfOnes.apply(weight) + OfOnes.apply(weight)).sum().backward()
    tensor.copy_(weight.grad)


def first(x):
    return torch.tensor([0], device=x.device)


WRITES = {
    "add_": lambda x: x.add_(1),
    "an item": lambda x: x.__setitem__(0, 5),
    "a part": lambda x: x[1:].fill_(5),
    "a part that is zeroed": lambda x: x[:1].zero_(),
    "a view": lambda x: x.view(2, 1).mul_(2),
    "as another type": lambda x: x.view(torch.int32).fill_(1),
    "masked_fill_": lambda x: x.masked_fill_(x > 0, 3),
    "index_put_": lambda x: x.index_put_((first(x),), x[:1] + 1),
    "scatter_": lambda x: x.scatter_(0, first(x), 3.0),
    "of the CPU": lambda x: x.copy_(torch.tensor([2.0, 3.0])),
    "out=": lambda x: torch.add(x, x, out=x),
    "out= of a reduction": lambda x: torch.sum(torch.ones(2, 2).to(x.device), dim=0, out=x),
    "lists": lambda x: torch._foreach_add_([x], 1),
    "data": lambda x: x.data.add_(1),
    "a set": lambda x: x.set_(torch.full((2,), 7.0, device=x.device)),
    "resized": lambda x: x.resize_(1).resize_(2).zero_(),
    "training": train,
    "statistics": normalize,
    "gradients": add_gradients,
    "gradients that autograd adds up": add_up_in_place,
}


@pytest.mark.parametrize("name", WRITES)
def test_what_was_written_to_is_what_the_cpu_says_or_made_up(name):
    def step(device):
        tensor = torch.ones(2, device=device)
        WRITES[name](tensor)
        return tensor.tolist()

    on_card, was_made_up = asked(lambda: step("cuda"))
    assert was_made_up or on_card == step("cpu")


UNSEEN = {
    "random": lambda x: x.normal_(),
    "what is not known": lambda x: x.copy_(torch.randn(2, device="cuda")),
    "a part of it": lambda x: x[1:].copy_(torch.randn(1, device="cuda")),
    "parameters of the CPU": lambda x: x.copy_(torch.randn(2)),
    "a set": lambda x: x.set_(torch.randn(2, device="cuda")),
    "by a mask": lambda x: x.masked_fill_(torch.randn(2, device="cuda").relu() == 0.5, 3),
    "statistics": lambda x: nn.functional.batch_norm(
        torch.randn(4, 2, device="cuda"), x, torch.ones(2, device="cuda"), training=True
    ),
}


@pytest.mark.parametrize("name", UNSEEN)
def test_what_nobody_knows_is_made_up_wherever_it_was_written(name):
    def step():
        tensor = torch.ones(2, device="cuda")
        UNSEEN[name](tensor)
        return tensor[1].item()

    assert asked(step)[1]


def test_collectives_bring_what_is_not_known():
    def step():
        distributed.init_process_group("nccl")
        try:
            tensor = torch.ones(2, device="cuda")
            distributed.all_reduce(tensor)
            return tensor[0].item()
        finally:
            distributed.destroy_process_group()

    assert simulate(step, world_size=2).pretended


def test_what_ranks_agree_on_is_what_this_one_says_and_listed_as_assumed():
    def step():
        distributed.init_process_group("nccl")
        try:
            vote = torch.tensor([1], device="cuda")
            distributed.all_reduce(vote, op=distributed.ReduceOp.MIN)
            return vote.item()
        finally:
            distributed.destroy_process_group()

    found = []
    simulation = simulate(lambda: found.append(step()), world_size=2)
    assert found == [1]
    assert simulation.pretended


def test_what_is_said_of_comparisons_is_the_same_on_the_cpu():
    def step():
        x = torch.randn(3, device="cuda")
        return (x > 0).tolist(), (x > 0)[0].item(), (x > 0).float().cpu()[0].item()

    assert asked(step) == (([True] * 3, True, 1.0), True)
