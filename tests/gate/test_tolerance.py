"""How far a figure may move: read, merged, held against."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_memreq import MemreqError
from pytest_memreq.gate.tolerance import (
    NO_TOLERANCE,
    OF_MEASURED,
    OF_SIMULATED,
    Tolerance,
    parse_tolerance,
    tolerance_for,
)

MIB = 2**20
SIZES = st.integers(0, 2**62)
TOLERANCES = st.builds(
    Tolerance,
    percent=st.decimals(0, 100, places=3),
    bytes=st.integers(0, 2**40),
    improved=st.sampled_from([None, "warn", "fail"]),
)
PARTIAL = TOLERANCES | st.just(NO_TOLERANCE) | st.just(Tolerance(improved="fail"))


@pytest.mark.parametrize(
    ("given_", "percent", "size"),
    [
        ("1 %, 2 MiB", "1", 2 * MIB),
        ("2 MiB,1%", "1", 2 * MIB),
        ("2%", "2", 0),
        ("0.3 %", "0.3", 0),
        ("100%", "100", 0),
        ("4 MiB", "0", 4 * MIB),
        ("0", "0", 0),
        (0, "0", 0),
        (512, "0", 512),
        ({"percent": 1}, "1", 0),
        ({"percent": 0.3, "bytes": "1 KiB"}, "0.3", 1024),
        ({"bytes": 7}, "0", 7),
    ],
)
def test_forms(given_, percent, size):
    assert parse_tolerance(given_, "") == Tolerance(percent=Decimal(percent), bytes=size)


def test_a_table_may_say_only_what_becomes_of_gains():
    assert parse_tolerance({"improved": "fail"}, "") == Tolerance(improved="fail")


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ("", "'' is not a tolerance; write \"1 %, 2 MiB\""),
        ("1 %, 2 %", "'1 %, 2 %' is not a tolerance"),
        ("1 MiB, 2 MiB", "is not a tolerance"),
        ("1 %, 2 MiB, 3", "is not a tolerance"),
        ("1 %,", "is not a tolerance"),
        ("101 %", "'101 %' is not from 0 to 100 %"),
        ("-1 %", "is not a tolerance"),
        ("1,5 %", "'1,5 %' is not a tolerance"),
        ("0, 5 %", "is not a tolerance"),
        ("nan %", "is not a tolerance"),
        ("1e3 %", "is not a tolerance"),
        ("\u0661 %", "is not a tolerance"),
        ("5 MBps", "is not a tolerance"),
        ("x" * 1000, "..."),
        (True, "True is not a tolerance"),
        (1.5, "1.5 is not a tolerance"),
        (None, "None is not a tolerance"),
        ([], "[] is not a tolerance"),
        (-1, "-1 is not a size"),
        ({}, "here: {} says nothing; write {percent = 1"),
        ({"percnt": 1}, "unknown 'percnt'; write {percent = 1"),
        ({"percent": "1"}, "percent = '1' is not a number"),
        ({"percent": True}, "percent = True is not a number"),
        ({"percent": float("nan")}, "nan is not from 0 to 100 %"),
        ({"percent": float("inf")}, "inf is not from 0"),
        ({"percent": -1}, "-1 is not from 0 to 100 %"),
        ({"percent": 10**400}, "is not from 0 to 100 %"),
        ({"bytes": "5 MBps"}, "here, bytes: '5 MBps' is not a size"),
        ({"bytes": 1.5}, "here, bytes: 1.5 is not a size"),
        ({"improved": "pass"}, "improved = 'pass' is not one of warn, fail"),
        ({"improved": []}, "improved = [] is not one of warn, fail"),
    ],
)
def test_mistakes_name_place_value_and_form(given_, words):
    with pytest.raises(MemreqError) as raised:
        parse_tolerance(given_, "here")
    message = str(raised.value)
    assert message.startswith("here")
    assert words in message
    assert len(message.splitlines()) == 1
    assert len(message) < 200


@pytest.mark.parametrize(
    ("old", "new", "is_exceeded"),
    [
        (1000 * MIB, 1010 * MIB, False),  # just 1 %
        (1000 * MIB, 1010 * MIB + 1, True),
        (1000 * MIB, 990 * MIB - 1, True),
        (100 * MIB, 102 * MIB, False),  # more than 1 %, just 2 MiB
        (100 * MIB, 102 * MIB + 1, True),
        (100 * MIB, 98 * MIB - 1, True),
        (1000 * MIB, 1005 * MIB, False),  # more than 2 MiB, less than 1 %
        (MIB, 2 * MIB, False),  # more than 1 %, less than 2 MiB
        (0, 2 * MIB + 1, True),
        (0, 2 * MIB, False),
    ],
)
def test_both_must_be_exceeded(old, new, is_exceeded):
    assert OF_MEASURED.is_exceeded(old, new) is is_exceeded


def test_a_share_is_exact():
    assert not parse_tolerance("0.3 %", "").is_exceeded(1000, 1003)
    assert parse_tolerance("0.3 %", "").is_exceeded(1000, 1004)
    assert not parse_tolerance({"percent": 0.3}, "").is_exceeded(10**18, 10**18 + 3 * 10**15)


@given(TOLERANCES, SIZES)
def test_the_same_figure_is_never_too_far(tolerance, size):
    assert not tolerance.is_exceeded(size, size)


@given(SIZES, SIZES)
def test_without_a_tolerance_every_byte_counts(old, new):
    assert OF_SIMULATED.is_exceeded(old, new) == (old != new)


@given(TOLERANCES, SIZES, SIZES)
def test_above_and_below_are_alike(tolerance, old, moved):
    moved = min(moved, old)
    assert tolerance.is_exceeded(old, old + moved) == tolerance.is_exceeded(old, old - moved)


@given(TOLERANCES, SIZES, SIZES, SIZES)
def test_farther_is_never_nearer(tolerance, old, moved, more):
    if tolerance.is_exceeded(old, old + moved):
        assert tolerance.is_exceeded(old, old + moved + more)


@given(TOLERANCES, SIZES, SIZES)
def test_each_alone_has_to_be_exceeded(tolerance, old, new):
    of_percent = Tolerance(percent=tolerance.percent, bytes=0)
    of_bytes = Tolerance(percent=Decimal(0), bytes=tolerance.bytes)
    each = of_percent.is_exceeded(old, new) and of_bytes.is_exceeded(old, new)
    assert tolerance.is_exceeded(old, new) == each


@given(PARTIAL, PARTIAL, PARTIAL)
def test_merging_is_associative_and_the_nearest_wins(a, b, c):
    assert a.over(b).over(c) == a.over(b.over(c))
    assert a.over(NO_TOLERANCE) == NO_TOLERANCE.over(a) == a


def test_marker_over_first_glob_over_default_over_built_in():
    globs = [
        ("test_b.py::*", Tolerance(percent=Decimal(3), bytes=3)),
        ("test_a.py::*", Tolerance(improved="fail")),
        ("*", Tolerance(percent=Decimal(4), bytes=4, improved="warn")),
    ]
    default = Tolerance(percent=Decimal(5), bytes=5)

    def of(nodeid, **given_):
        return tolerance_for(nodeid, **given_, default=default, built_in=OF_MEASURED)

    marker = Tolerance(percent=Decimal(2), bytes=2)
    assert of("test_a.py::x", globs=globs, marker=marker) == Tolerance(
        percent=Decimal(2), bytes=2, improved="fail"
    )
    assert of("test_a.py::x", globs=globs).bytes == 4
    assert of("test_b.py::x", globs=globs) == Tolerance(
        percent=Decimal(3), bytes=3, improved="warn"
    )
    assert of("test_b.py::x") == Tolerance(percent=Decimal(5), bytes=5, improved="warn")
    assert tolerance_for("x", built_in=OF_MEASURED) == OF_MEASURED


@given(TOLERANCES)
def test_what_it_says_of_itself_reads_as_itself(tolerance):
    written = Tolerance(percent=tolerance.percent, bytes=tolerance.bytes // 1024 // 1024)
    same = parse_tolerance(str(written), "")
    assert same.percent == written.percent
