"""Sizes between text and bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_memreq import MemreqError, format_size, parse_size
from pytest_memreq.units import MAX_BYTES, UNIT_BYTES, format_limit, parse_limit

GOOD = {
    "12 GiB": 12 * 2**30,
    "12GiB": 12 * 2**30,
    " 12 GiB ": 12 * 2**30,
    "500 MB": 500 * 10**6,
    "1.5 GiB": 3 * 2**29,
    "0.3 KiB": 307,
    "7 B": 7,
    "12884901888": 12884901888,
    12884901888: 12884901888,
    0: 0,
    MAX_BYTES: MAX_BYTES,
}
BAD = [
    "5 MBps",
    "-1 GiB",
    "NaN GiB",
    "1,5 GiB",
    "120%",
    "80%",
    "",
    " ",
    "GiB",
    "1e9",
    "1e9 B",
    "1.5",
    "12 Gb",
    "12 gib",
    "12  GiB",
    "inf",
    "0x10",
    "\u0661 GiB",  # an Arabic one
    "1 GiB\n2 GiB",
    "9" * 5000,
    "9 " + "G" * 5000,
    -1,
    2**63,
    10**5000,
    True,
    1.5,
    None,
    [],
    b"1 GiB",
]


@pytest.mark.parametrize(("size", "size_bytes"), GOOD.items())
def test_sizes_that_are_read(size, size_bytes):
    assert parse_size(size) == size_bytes


@pytest.mark.parametrize("size", BAD, ids=lambda size: ascii(size)[:20] if size != BAD[23] else "")
def test_what_is_no_size_is_named_with_the_right_form(size):
    with pytest.raises(MemreqError, match=r'is not a size; write "12 GiB", "500 MB"') as raised:
        parse_size(size)
    message = str(raised.value)
    assert "\n" not in message
    assert len(message) < 200


def test_the_error_names_what_was_given():
    with pytest.raises(MemreqError, match=r"'5 MBps' is not a size"):
        parse_size("5 MBps")


@pytest.mark.parametrize(("limit", "share"), [("80%", 0.8), ("0.5 %", 0.005), ("100%", 1.0)])
def test_shares_are_limits(limit, share):
    assert parse_limit(limit) == pytest.approx(share)
    assert isinstance(parse_limit(limit), float)


@pytest.mark.parametrize("limit", ["120%", "0%", "100.1%"])
def test_shares_beyond_a_card_are_refused(limit):
    with pytest.raises(MemreqError, match="more than 0% and at most 100%"):
        parse_limit(limit)


@pytest.mark.parametrize("limit", ["-1%", "80 percent", "%", "1,5%", "nan%", True, 0.8])
def test_what_is_no_limit_is_named_with_the_right_form(limit):
    with pytest.raises(
        MemreqError, match=r'is not a limit; write .* a share of the card like "80%"'
    ):
        parse_limit(limit)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (12 * 2**30, "12.00 GiB"),
        (-3 * 2**20, "-3.00 MiB"),
        (3_500_000_000_000, "3.18 TiB"),
    ],
)
def test_sizes_are_printed_in_binary_units(size_bytes, text):
    assert format_size(size_bytes) == text


def test_limits_are_printed_as_they_are_written():
    assert format_limit(0.8) == "80%"
    assert format_limit(2**30) == "1.00 GiB"


@given(st.integers(0, 2**62))
def test_what_is_printed_reads_back_within_its_rounding(size_bytes):
    read = parse_size(format_size(size_bytes))
    unit = max((u for u in UNIT_BYTES.values() if u <= max(size_bytes, 1)), default=1)
    assert abs(read - size_bytes) <= max(unit, 1024) * 0.006 + 1


@given(st.integers(0, 9000), st.sampled_from(sorted(UNIT_BYTES)))
def test_whole_numbers_of_a_unit_are_exact(number, unit):
    assert parse_size(f"{number} {unit}") == number * UNIT_BYTES[unit]


@given(st.text(max_size=30))
def test_any_text_is_a_size_or_a_clear_error(text):
    try:
        assert 0 <= parse_size(text) <= MAX_BYTES
    except MemreqError as error:
        assert "is not a size" in str(error)  # noqa: PT017  # either outcome is right
