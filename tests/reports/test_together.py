"""What tests had of a card at the same time, in every form of a report."""

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_memreq.packing.rooms import Room, Together
from pytest_memreq.reports import html, jsonfile, junit, markdown, openmetrics, terminal
from pytest_memreq.reports.merging import Part, merge
from pytest_memreq.reports.together import largest_together, together
from pytest_memreq.requirement import DevicePeak, Peak
from pytest_memreq.results import RankResult, Results, TestResult

SPANS = st.tuples(st.integers(0, 20), st.integers(1, 9), st.integers(0, 50))


def room(begun, ended, size=10, card=0):
    return Room(card=card, bytes=size, waited_seconds=0.0, begun_seconds=begun, ended_seconds=ended)


def ran(size, *rooms, **more):
    given = {"mode": "measured", "verdict": "within", "reason": "", **more}
    return TestResult(nodeid="a", peak=Peak(allocated_bytes=size), rooms=rooms, **given)


def allocated(tests):
    return {each.card: each.peak.allocated_bytes for each in together(tests)}


def test_who_comes_when_another_has_gone_is_not_beside_it():
    tests = [ran(5, room(0, 2)), ran(7, room(2, 4)), ran(1, room(3, 5))]
    [found] = together(tests)
    assert (found.tests, found.rooms_bytes, found.peak.allocated_bytes) == (2, 20, 8)


@given(st.lists(SPANS, min_size=1, max_size=12))
def test_it_is_the_largest_sum_at_any_moment(spans):
    tests = [ran(size, room(begun, begun + length)) for begun, length, size in spans]
    at = [
        sum(size for begun, length, size in spans if begun <= moment < begun + length)
        for moment in range(30)
    ]
    assert allocated(tests) == {0: max(at)}


def test_what_is_not_known_of_one_is_not_known_of_all():
    tests = [ran(5, room(0, 9)), ran(None, room(1, 2))]
    assert allocated(tests) == {0: None}
    assert together([ran(5)]) == ()


def test_each_card_has_its_own():
    own = (room(0, 1, card=0), room(0, 1, card=1))
    peaks = [Peak(allocated_bytes=size) for size in (3, 4)]
    devices = tuple(
        DevicePeak(index=n, name="x", peak=peak, absolute_peak=peak) for n, peak in enumerate(peaks)
    )
    ranks = tuple(
        RankResult(rank=n, verdict="within", reason="", peak=Peak(allocated_bytes=10 + n))
        for n in range(4)
    )
    assert allocated([ran(4, *own, devices=devices)]) == {0: 3, 1: 4}
    assert allocated([ran(13, *own, ranks=ranks)]) == {0: 10 + 12, 1: 11 + 13}
    assert allocated([ran(4, *own)]) == {0: 4, 1: 0}


def test_ten_thousand_tests_take_no_time():
    tests = [ran(1, room(n, n + 1.5)) for n in range(10_000)]
    begun = time.process_time()
    assert allocated(tests) == {0: 2}
    assert time.process_time() - begun < 2


MOST = (Together(card=1, tests=3, rooms_bytes=30, peak=Peak(allocated_bytes=25, device_bytes=29)),)
TOLD = "card 1: at most 3 tests at once, 25 B of allocated together, room for 30 B set aside"
RUN = Results(tests=(ran(5),), together=MOST)


@pytest.mark.parametrize(
    ("render", "said"),
    [
        (lambda results: "\n".join(line.text for line in terminal.render(results, width=80)), TOLD),
        (markdown.render, TOLD),
        (html.render, TOLD),
        (junit.render, '<property name="memreq.together.card_1.peak.allocated_bytes" value="25"'),
        (openmetrics.render, 'memreq_together_bytes{card="1",metric="device"} 29\n'),
        (jsonfile.render, '"rooms_bytes": 30'),
    ],
    ids=["terminal", "markdown", "html", "junit", "openmetrics", "json"],
)
def test_every_report_says_it(render, said):
    assert said in render(RUN)
    assert said not in render(replace(RUN, together=()))


def test_runs_that_shared_no_card_are_not_added_up():
    other = (
        Together(card=0, tests=1, rooms_bytes=1, peak=Peak()),
        Together(card=1, tests=1, rooms_bytes=40, peak=Peak(allocated_bytes=7)),
    )
    parts = [Part(where="a", results=RUN), Part(where="b", results=Results(together=other))]
    [first, second] = merge(parts).results.together
    assert first == other[0]
    assert (second.tests, second.rooms_bytes, second.peak.allocated_bytes) == (3, 40, 25)
    assert largest_together([]) == ()
