"""Whole numbers and truths that code gives itself are known on the pretended card."""

import functools

import pytest
import torch

from pytest_memreq import simulate
from pytest_memreq.errors import SimulationError

WHOLE = (torch.bool, torch.uint8, torch.int32, torch.int64)


def whole(*numbers, **kwargs):
    return torch.tensor(numbers, **kwargs).to("cuda")


def test_what_is_copied_to_the_card_is_read_there():
    def step():
        lengths = whole(3, 5, 2)
        assert lengths.cpu().tolist() == lengths.tolist() == [3, 5, 2]
        assert lengths.max().item() == 5
        assert int(lengths.sum()) == 10
        assert lengths[1:].tolist() == [5, 2]
        assert (lengths > 2).tolist() == [True, True, False]
        assert torch.equal(lengths, whole(3, 5, 2))
        assert not torch.equal(lengths, whole(3, 5, 1))
        on_cpu = torch.zeros(3, dtype=torch.int64)
        assert on_cpu.copy_(lengths).tolist() == [3, 5, 2]

    assert simulate(step).pretended == ()


def test_a_loop_that_counts_on_the_card_ends():
    def step():
        number, most = torch.zeros((), dtype=torch.int64, device="cuda"), torch.tensor(3).cuda()
        turns = 0
        while number < most:
            number += 1
            turns += 1
        assert turns == 3

    assert simulate(step).pretended == ()


@pytest.mark.parametrize("dtype", WHOLE)
def test_fresh_numbers_are_what_makes_them(dtype):
    def step():
        make = {"dtype": dtype, "device": "cuda"}
        assert torch.ones(2, **make).tolist() == [1, 1]
        assert torch.zeros(2, **make).tolist() == [0, 0]
        assert torch.full((2,), 1, **make).tolist() == [1, 1]
        assert torch.tensor([1, 0], **make).tolist() == [1, 0]
        empty = torch.empty(2, **make)
        empty.copy_(torch.tensor([0, 1]))
        assert empty.tolist() == [0, 1]

    assert simulate(step).pretended == ()


def test_what_is_written_in_a_part_is_known_in_the_whole():
    def step():
        numbers = torch.arange(6, device="cuda").view(2, 3).t()
        numbers[0] = 9
        numbers[1, 1].fill_(7)
        assert numbers.tolist() == [[9, 9], [1, 7], [2, 5]]

    assert simulate(step).pretended == ()


def test_nothing_is_known_of_what_unknown_numbers_were_written_into():
    def step():
        numbers = whole(3, 5, 2)
        numbers[0] = torch.randint(9, (), device="cuda")
        assert numbers.tolist() == [0, 0, 0]

    assert "values copied to the CPU" in simulate(step).pretended[0]


def test_nothing_is_known_of_what_ranks_added_up():
    def step():
        flag = torch.ones(1, dtype=torch.int64, device="cuda")
        torch.distributed.all_reduce(flag)
        return flag.item()

    assert len(simulate(step, world_size=8, rank=0).pretended) == 1


def test_one_side_decides_where_it_can():
    def step():
        unknown = torch.randint(2, (3,), device="cuda")
        none, every = whole(0, 0, 0), torch.ones(1, dtype=torch.bool, device="cuda")
        assert (unknown & none).tolist() == [0, 0, 0]
        assert ((unknown > 0) | every).all().item()
        assert not ((unknown > 0) & ~every).any().item()

    assert simulate(step).pretended == ()


def test_nothing_is_found_where_a_number_is_looked_for():
    def step():
        unknown = torch.randint(50, (2, 7), device="cuda")
        assert not (unknown[:, -1] == torch.tensor(0, device="cuda")).sum() > 0
        assert not torch.isin(unknown, torch.tensor([5], device="cuda")).any()

    simulate(step)


def test_what_is_chosen_from_is_known_by_the_choice():
    def step():
        score, token = torch.randn(2, 1, device="cuda"), torch.randint(9, (2, 1), device="cuda")
        is_end = torch.isin(token, whole(5))
        is_done = torch.cat((torch.zeros(2, 1, dtype=torch.bool, device="cuda"), is_end), dim=1)
        least = torch.where(is_done[:, :1], score, -1e9)
        assert least.tolist() == [[-1e9], [-1e9]]
        assert torch.where(~is_done[:, 1:], 3.0, score).tolist() == [[3], [3]]
        assert (score > least).all()
        assert torch.where(~is_done, score > least, is_end).any()

    simulate(step)


def test_what_is_too_large_to_be_computed_is_not_known():
    ones = functools.partial(torch.ones, 2**20, dtype=torch.int64, device="cuda")
    assert len(simulate(lambda: ones().max().item()).pretended) == 1


def test_a_loop_that_waits_for_a_made_up_value_is_ended_and_named():
    def step():
        x = torch.randn((), device="cuda")
        while x.item() < 1:
            pass

    with pytest.raises(SimulationError, match=r"item\(\) at .*test_values.py:\d+ was asked for 20"):
        simulate(step)


@pytest.mark.parametrize("how", [{}, {"do_sample": True}, {"eos_token_id": 5}, {"num_beams": 4}])
def test_generation_ends_after_the_tokens_that_were_asked_for(how):
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )

    def step():
        model = transformers.LlamaForCausalLM(config).cuda().eval()
        prompt = torch.randint(50, (2, 4), device="cuda")
        turns = []

        def count(*_):
            turns.append(1)
            assert len(turns) <= 3  # or it may never end

        model.register_forward_hook(count)
        model.generate(prompt, max_new_tokens=3, pad_token_id=0, **how)
        assert len(turns) == 3

    simulate(step)
