"""docs/formulas.md against the code: its tables are computed, and what it says of errata."""

import re

import pytest
import torch

from example_project.models.alexnet import AlexNet, two_towers
from example_project.models.coatnet import coatnet_0, coatnet_7
from example_project.models.gpt import gpt_3
from pytest_memreq.estimate import estimate
from pytest_memreq.estimate.families import FAMILIES
from pytest_memreq.estimate.optimizers import OPTIMIZERS
from pytest_memreq.estimate.precisions import PRECISIONS
from tests.estimate import alexnet
from tests.estimate.tables import DOCUMENT, TABLES, written_anew

TEXT = DOCUMENT.read_text(encoding="utf-8")


def rows_below(heading):
    """The tables of a section, without their heads, as lists of cells."""
    section = TEXT.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = re.findall(r"^\|(.*)\|$", section, re.MULTILINE)
    rows = [[cell.strip() for cell in line.split("|")] for line in lines]
    rules = [at for at, row in enumerate(rows) if set(row[0]) == {"-"}]
    return [row for at, row in enumerate(rows) if at not in rules and at + 1 not in rules]


def test_every_table_is_the_one_computed():
    assert written_anew(TEXT) == TEXT
    assert re.findall(r"<!-- table: (\w+) -->", TEXT) == list(TABLES)


def test_every_row_of_the_code_is_named():
    for name in (*PRECISIONS, *OPTIMIZERS, *FAMILIES):
        assert re.search(rf"\b{name}\b", TEXT), name


def test_the_founding_formula_is_the_one_of_the_code():
    assert f"parameters x {estimate(1).total_bytes} bytes + activations" in TEXT


def test_the_errata_name_what_is_wrong_and_what_the_code_computes():
    with torch.device("meta"):
        needed = estimate(alexnet.one_tower(), torch.empty(1, 3, 227, 227))
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


# Published counts: Krizhevsky et al. by arithmetic; Dai et al. (arXiv 2106.04803), table 4, within
# the digits it prints; Brown et al. (arXiv 2005.14165).
@pytest.mark.parametrize(
    ("factory", "count", "within"),
    [
        (AlexNet, 62_378_344, 0),
        (two_towers, 60_965_224, 0),
        (coatnet_0, 25e6, 0.03),
        (coatnet_7, 2440e6, 0.01),
        (gpt_3, 175e9, 0.01),
    ],
)
def test_the_documents_models_have_the_published_parameters(factory, count, within):
    with torch.device("meta"):
        needed = estimate(factory())
    assert needed.parameter_elements == pytest.approx(count, rel=within, abs=0)
    states = needed.total_bytes - needed.breakdown.buffers_bytes
    assert states == 20 * needed.parameter_elements


def test_gpt_3s_states_are_3_5_terabytes_either_way():
    with torch.device("meta"):
        module = gpt_3()
    for needed in (estimate(module), estimate("175B")):
        assert f"{needed.total_bytes / 1e12:.1f} TB" == "3.5 TB"


def test_coatnet_7_runs_on_the_published_image():
    with torch.device("meta"):
        needed = estimate(coatnet_7(), torch.empty(1, 3, 512, 512))
    assert any(row.output_shape == (1000,) for row in needed.layers)
    assert sum(row.parameter_elements for row in needed.layers) == needed.parameter_elements
