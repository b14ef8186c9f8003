"""Parameter counts as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_memreq.errors import MemreqError
from pytest_memreq.estimate.counts import MAX_COUNT, SUFFIXES, parse_count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("175B", 175_000_000_000),
        ("61M", 61_000_000),
        ("1.3B", 1_300_000_000),
        ("1.3 b", 1_300_000_000),
        ("124439808", 124_439_808),
        ("0.5K", 500),
        (" 1T ", 10**12),
        (62_378_344, 62_378_344),
        (1, 1),
    ],
)
def test_count_is_read(text, count):
    assert parse_count(text) == count


@pytest.mark.parametrize(
    "text",
    [
        *(0, -1, True, False, 10**400),
        *("0", "0B", "-3B", "+1B", "abc", "", "B", "1.B", "1B 2M", "12 GiB", "1001T", "9" * 5000),
        *(
            "1e9x",
            "1e9",
            "1.5",
            "0.0001K",
            "1,000",
            "1_000",
            "inf",
            "NaN",
            "\N{ARABIC-INDIC DIGIT THREE}B",
        ),
    ],
)
def test_no_count_is_an_error_in_one_line(text):
    with pytest.raises(MemreqError, match="is not a parameter count; write") as error:
        parse_count(text)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


@given(st.integers(1, 10**6), st.sampled_from(sorted(SUFFIXES)))
def test_suffixes_are_powers_of_a_thousand(number, suffix):
    expected = number * 1000 ** " KMBT".index(suffix or " ")
    if expected <= MAX_COUNT:
        assert parse_count(f"{number}{suffix}") == expected


@given(st.text(max_size=12) | st.integers())
def test_any_input_gives_a_count_or_memreq_error(given_count):
    try:
        assert 0 < parse_count(given_count) <= MAX_COUNT
    except MemreqError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either outcome is right
