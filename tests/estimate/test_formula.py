"""The founding formula: bytes from counts, and its tables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_memreq.errors import MemreqError
from pytest_memreq.estimate import estimate
from pytest_memreq.estimate.formula import (
    OPTIMIZERS,
    PRECISIONS,
    ModelCounts,
    requirement,
    setup_of,
)


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


def test_what_a_count_cannot_tell_is_none():
    known = {word: size for word, size in estimate("1K").breakdown.items() if size is not None}
    assert known == {"parameters": 2_000, "gradients": 2_000, "optimizer_states": 16_000}


@given(
    trainable=st.integers(0, 10**12),
    frozen=st.integers(0, 10**12),
    activations=st.integers(0, 10**12),
    buffers=st.integers(0, 10**9),
    batch_size=st.integers(1, 10**4),
)
def test_the_sum_is_the_formula(trainable, frozen, activations, buffers, batch_size):
    counts = ModelCounts(
        parameters=trainable + frozen,
        trainable_parameters=trainable,
        buffers_bytes=buffers,
        activations=activations,
    )
    setup = setup_of(optimizer="adam", precision="mixed", batch_size=batch_size)
    total = 20 * trainable + 2 * frozen + 4 * activations * batch_size + buffers
    assert requirement(counts, setup).total_bytes == total


def test_known_rows_are_adam_and_adamw_in_mixed_precision():
    assert set(PRECISIONS) == {"mixed"}
    assert set(OPTIMIZERS) == {"adam", "adamw"}
    assert estimate("61M", optimizer="adamw") == estimate("61M", optimizer="adam")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"optimizer": "sgd"}, "optimizer='sgd' is not known yet; write 'adam' or 'adamw'"),
        ({"optimizer": ["adam"]}, "optimizer=['adam'] is not known yet"),
        ({"precision": "fp8"}, "precision='fp8' is not known yet; write 'mixed'"),
        ({"precision": None}, "precision=None is not known yet"),
        ({"parallelism": 8}, "parallelism=8: only one device is estimated yet"),
        ({"batch_size": 0}, "batch_size=0 is not a whole number above 0"),
        ({"batch_size": True}, "batch_size=True is not a whole number above 0"),
        ({"batch_size": 1.5}, "batch_size=1.5 is not a whole number above 0"),
    ],
)
def test_an_unknown_setup_names_what_is_known(asked, said):
    with pytest.raises(MemreqError) as error:
        estimate("61M", **asked)
    assert str(error.value).startswith(said)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (1.5, "cannot estimate a float; give an nn.Module, or a parameter count"),
        (None, "cannot estimate a NoneType"),
        (dict, "cannot estimate a type"),
        ("abc", "'abc' is not a parameter count"),
    ],
)
def test_what_is_neither_model_nor_count_is_an_error(model, said):
    with pytest.raises(MemreqError) as error:
        estimate(model)
    assert str(error.value).startswith(said)


def test_inputs_with_a_parameter_count_are_an_error():
    with pytest.raises(MemreqError, match="inputs were given with the parameter count '61M'"):
        estimate("61M", object())
