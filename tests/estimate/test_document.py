"""docs/formulas.md against the code: every figure in it is computed here."""

import re
from pathlib import Path

import pytest
import torch

from pytest_memreq.estimate import estimate
from pytest_memreq.estimate.formula import OPTIMIZERS, PRECISIONS
from tests.estimate import alexnet

DOCUMENT = (Path(__file__).parents[2] / "docs" / "formulas.md").read_text(encoding="utf-8")


def rows_below(heading):
    """The tables of a section, without their heads, as lists of cells."""
    section = DOCUMENT.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = re.findall(r"^\|(.*)\|$", section, re.MULTILINE)
    rows = [[cell.strip() for cell in line.split("|")] for line in lines]
    rules = [at for at, row in enumerate(rows) if set(row[0]) == {"-"}]
    return [row for at, row in enumerate(rows) if at not in rules and at + 1 not in rules]


def number(text):
    return int(text.replace(",", ""))


@pytest.fixture(scope="module")
def needed():
    with torch.device("meta"):
        model = alexnet.one_tower()
    return estimate(model, torch.empty(1, 3, 227, 227))


def test_the_bytes_of_a_parameter_are_the_tables_of_the_code():
    mixed = PRECISIONS["mixed"]
    states = [f"{copy} copy" for copy in mixed.copies] + list(OPTIMIZERS["adam"])
    expected = [
        ("parameters", mixed.parameter_bytes),
        ("gradients", mixed.gradient_bytes),
        *((f"optimizer_states: {state}", mixed.state_bytes) for state in states),
        ("total", estimate(1).total_bytes),
    ]
    rows = rows_below("The 20 bytes of a parameter")
    assert [(name, number(size)) for name, size in rows] == expected
    assert f"parameters x {estimate(1).total_bytes} bytes + activations" in DOCUMENT


def test_alexnets_layer_table_is_the_one_computed(needed):
    expected = [
        [
            row.name,
            "x".join(map(str, row.output_shape)),
            *map("{:,}".format, (row.activation_elements, row.weight_elements)),
            *map("{:,}".format, (row.bias_elements, row.parameter_elements)),
        ]
        for row in needed.layers
    ]
    rows = rows_below("Example: AlexNet")
    assert rows[: len(expected)] == expected
    total = ["Total", "", f"{alexnet.ACTIVATIONS:,}", "", "", f"{alexnet.PARAMETERS:,}"]
    assert rows[len(expected)] == total


def test_alexnets_sum_is_the_one_computed(needed):
    rows = [row for row in rows_below("Example: AlexNet") if len(row) == 2]
    sizes = dict(needed.breakdown.items())
    for name, size in rows[:-1]:
        word, count, factor = re.fullmatch(r"(\w+): ([0-9,]+) x ([0-9]+)", name).groups()
        assert number(size) == number(count) * int(factor) == sizes[word]
    assert len(rows) == 5
    assert rows[-1] == ["total", f"{needed.total_bytes:,}"]


def test_sizes_from_a_count_are_the_ones_computed():
    units = {"GB": 10**9, "TB": 10**12}
    rows = rows_below("From a parameter count alone")
    for _, count, size in rows:
        amount, unit = size.split()
        assert estimate(count).total_bytes == pytest.approx(float(amount) * units[unit], rel=1e-9)
    assert [row[1] for row in rows] == ["61M", "2440M", "175B"]


def test_the_errata_name_what_is_wrong_and_what_the_code_computes(needed):
    errata = rows_below("Errata of the source")
    wrong = ["1,209,312", "1,248,776,192", "44.8 GB", "61M parameters", "3.5 TB"]
    right = [
        f"{needed.breakdown.activations_bytes:,} bytes",
        f"{needed.total_bytes:,} bytes: {20 * alexnet.PARAMETERS:,} ({alexnet.PARAMETERS:,} x 20)",
        f"2440M x 20 = {estimate('2440M').total_bytes / 1e9:.1f} GB",
        f"60,965,224 in the published one with two grouped towers, {alexnet.PARAMETERS:,}",
        "right, in decimal TB",
    ]
    assert len(errata) == len(right)
    for (said, computed), old, new in zip(errata, wrong, right, strict=True):
        assert old in said
        assert new in computed
