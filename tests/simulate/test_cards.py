"""Cards: facts that hold together, and the names by which they are found."""

import re

import pytest

from pytest_memreq.errors import MemreqError
from pytest_memreq.simulate.cards import CARDS, DEFAULT_CARD, find_card, nearest_card


@pytest.mark.parametrize("card", CARDS.values(), ids=lambda card: card.name)
def test_facts_are_plausible_and_sourced(card):
    """A slip in a digit or a unit falls out of these ranges."""
    assert 3 * 2**30 < card.capacity_bytes < 310 * 10**9
    assert (7, 0) <= card.compute_capability < (13, 0)
    assert 14 <= card.multiprocessors <= 304
    assert "torch properties" in card.source or "deviceQuery" in card.source


@pytest.mark.parametrize("card", CARDS.values(), ids=lambda card: card.name)
def test_capacity_is_just_below_the_advertised_one(card):
    """What is in the name as "80GB" is marketing GiB; a card reports some per cent less."""
    for gigabytes in map(int, re.findall("([0-9]+)GB", card.name)):
        assert 0.9 < card.capacity_bytes / (gigabytes * 2**30) < 1


@pytest.mark.parametrize("name", CARDS)
def test_full_name_finds_its_card_in_any_case(name):
    assert find_card(name) is find_card(name.upper()) is find_card(f" {name.lower()} ")
    assert find_card(name).name == name


@pytest.mark.parametrize(
    ("short", "name"),
    [
        ("H200", "NVIDIA H200"),
        ("a10g", "NVIDIA A10G"),
        ("T4", "Tesla T4"),
        ("NVIDIA T4", "Tesla T4"),
        ("L4", "NVIDIA L4"),
        ("RTX 4090", "NVIDIA GeForce RTX 4090"),
        ("4090", "NVIDIA GeForce RTX 4090"),
        ("4070 Ti SUPER", "NVIDIA GeForce RTX 4070 Ti SUPER"),
        ("A100 80GB", "NVIDIA A100-SXM4-80GB"),
        ("A100-40GB", "NVIDIA A100-SXM4-40GB"),
        ("V100 32GB", "Tesla V100-SXM2-32GB"),
        ("H100 PCIe", "NVIDIA H100 PCIe"),
        ("RTX 5090", "NVIDIA GeForce RTX 5090"),
        ("MI300X", "AMD Instinct MI300X"),
        ("H100 80GB", "NVIDIA H100 80GB HBM3"),
        ("RTX4090", "NVIDIA GeForce RTX 4090"),
        ("rtx4070tiSuper", "NVIDIA GeForce RTX 4070 Ti SUPER"),
        ("H100-80GBHBM3", "NVIDIA H100 80GB HBM3"),
    ],
)
def test_short_form_finds_the_one_card_it_can_mean(short, name):
    assert find_card(short).name == name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("A100", "may be any of 'NVIDIA A100-SXM4-40GB', 'NVIDIA A100-SXM4-80GB'"),
        ("H100", "may be any of 'NVIDIA H100 80GB HBM3', 'NVIDIA H100 PCIe'"),
        ("A10", "no card named 'A10' is known; the nearest are 'NVIDIA A10G'"),
        ("RTX4091", "'NVIDIA GeForce RTX 4090'"),
        ("RTX 4070", "no card named 'RTX 4070' is known; the nearest are"),
        ("4070 Ti", "no card named '4070 Ti' is known"),
        ("4070 SUPER", "no card named '4070 SUPER' is known"),
        ("GTX 5", "no card named 'GTX 5' is known"),
        ("", "no card named '' is known; memreq gpus lists those that are"),
        ("NVIDIA", "no card named 'NVIDIA' is known"),
    ],
)
def test_a_name_that_means_none_or_several_is_an_error_in_one_line(name, said):
    with pytest.raises(MemreqError) as error:
        find_card(name)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_default_card_is_known():
    assert find_card(DEFAULT_CARD).name == DEFAULT_CARD


@pytest.mark.parametrize(
    ("name", "capability", "capacity_bytes", "nearest"),
    [
        ("nvidia h200", None, None, "NVIDIA H200"),
        ("NVIDIA H100 PCIe", (9, 0), 143156 * 2**20, "NVIDIA H100 PCIe"),
        ("NVIDIA H200 NVL", (9, 0), 143 * 2**30, "NVIDIA H200"),
        ("NVIDIA A40", (8, 6), 48 * 2**30, "NVIDIA GeForce RTX 3090"),
        ("NVIDIA A100-SXM4-80GB MIG 3g.40gb", (8, 0), 40 * 2**30, "NVIDIA A100-SXM4-40GB"),
        ("NVIDIA RTX 4000 Ada", (8, 9), 16 * 2**30, "NVIDIA GeForce RTX 4070 Ti SUPER"),
        ("NVIDIA GB10", (12, 1), 120 * 2**30, "NVIDIA GeForce RTX 5090"),
        ("NVIDIA Orin", (8, 7), 22587 * 2**20, "NVIDIA A10G"),
        ("AMD Instinct MI300X", None, None, "AMD Instinct MI300X"),
        ("of no kind", (9, 4), 196592 * 2**20, "NVIDIA H200"),
    ],
)
def test_the_nearest_card_has_like_kernels_and_then_a_like_size(
    name, capability, capacity_bytes, nearest
):
    assert nearest_card(name, capability, capacity_bytes).name == nearest


def test_what_is_no_cuda_device_is_near_to_none():
    assert nearest_card("Apple M4", None, 2**34) is None
