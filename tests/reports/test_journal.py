"""The journal: what was written comes back, as far as it was written, and nothing else passes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_memreq import MemreqError
from pytest_memreq.reports.gathering import (
    CutShort,
    Ended,
    Finished,
    Gathering,
    Housed,
    Judged,
    Left,
    Started,
    gathered,
)
from pytest_memreq.reports.journal import (
    LAST_BYTES,
    Heading,
    events_of,
    has_finished,
    heading,
    heading_of,
    line_of,
)
from pytest_memreq.results import Environment, TestResult
from tests.reports.hostile import NAMES
from tests.test_results import RESULTS, ROOMS

NODEIDS = st.text() | st.sampled_from(NAMES)
EVENTS = st.one_of(
    st.builds(Started, nodeid=NODEIDS),
    st.builds(Ended, nodeid=NODEIDS),
    st.builds(Left, nodeid=NODEIDS, leaked_bytes=st.integers(-(2**62), 2**62)),
    st.builds(Housed, nodeid=NODEIDS, rooms=st.lists(ROOMS, max_size=2).map(tuple)),
    st.builds(CutShort, nodeid=NODEIDS, outcome=st.text()),
    st.builds(Judged, result=RESULTS, environment=st.builds(Environment, gpu=st.text())),
    st.builds(Finished, status=st.sampled_from(["complete", "incomplete"])),
)
KNOWN = Environment(mode="measured", gpu="L4")


def written(events):
    return (heading() + "".join(map(line_of, events))).encode()


def judged(nodeid="a", *, environment=KNOWN, **more):
    given = {"mode": "measured", "verdict": "within", "reason": "", **more}
    return Judged(result=TestResult(nodeid=nodeid, **given), environment=environment)


def results_after(*events):
    gathering = Gathering()
    for event in events:
        gathering.take(event)
    return gathering.results()


@given(st.lists(EVENTS, max_size=5))
def test_events_come_back(events):
    assert list(events_of(written(events), "")) == events


@given(st.lists(EVENTS, min_size=1, max_size=4), st.data())
def test_whatever_is_torn_off_the_rest_comes_back(events, data):
    content = written(events)
    kept = content[: data.draw(st.integers(0, len(content)))]
    read = list(events_of(kept, ""))
    assert read == events[: len(read)]
    assert len(read) == max(kept.count(b"\n") - 1, 0)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("nonsense", "line 2: is not JSON: *"),
        ("", "line 2: is not JSON: *"),
        ("[]", "line 2: holds a list instead of an object"),
        ("{}", "line 2: has no key; right is one of started, *"),
        ('{"begun": {}}', "line 2: has 'begun'; right is one of started, *"),
        ('{"started": {}}', "line 2: started: has no 'nodeid'"),
        ('{"started": {"nodeid": 1}}', "line 2: started.nodeid: 1 is not text"),
        ('{"started": {"nodeid": "a"}, "ended": {}}', "line 2: has 'started', 'ended'; *"),
        ('{"judged": {}}', "line 2: judged: has no 'result'"),
        ('{"judged": []}', "line 2: judged: a list is not an object"),
        ('{"left": {"nodeid": "a", "leaked_bytes": NaN}}', "line 2: has NaN, *"),
    ],
)
def test_a_whole_line_that_is_no_event_is_refused(line, what):
    content = heading() + line + "\n"
    with pytest.raises(MemreqError) as raised:
        list(events_of(content.encode(), "x.jsonl"))
    message = str(raised.value)
    assert message.startswith("x.jsonl: ")
    begin, star, _ = what.partition("*")
    assert message.removeprefix("x.jsonl: ").startswith(begin)
    assert star or message.endswith(what)


@given(st.lists(EVENTS, max_size=3), EVENTS)
def test_a_journal_is_whole_with_its_last_line(events, last):
    content = written([*events, last])
    assert has_finished(content[-LAST_BYTES - 1 :]) == isinstance(last, Finished)
    assert not has_finished(content[:-1])
    told = [event.status for event in [*events, last] if isinstance(event, Finished)]
    assert gathered(events_of(content, "")).status == [*told, "incomplete"][-1 - bool(told)]


@given(st.integers(0, 9), st.integers(0, 9))
def test_the_heading_says_whose_it_is(rank, more):
    whose = Heading(rank=rank, world_size=rank + 1 + more)
    assert heading_of(heading(whose).encode(), "") == whose


@pytest.mark.parametrize(("rank", "world_size"), [(1, 1), (-1, 2), (0, 0), (0, 2**40)])
def test_a_heading_of_no_rank_is_refused(rank, world_size):
    content = heading(Heading(rank=rank, world_size=world_size)).encode()
    with pytest.raises(MemreqError, match=r"^x: line 1: rank .* is none of 1 to 131072"):
        heading_of(content, "x")


@pytest.mark.parametrize("head", ['{"format": 2}', '{"format": true}', "{}", "nonsense"])
def test_another_format_is_refused(head):
    with pytest.raises(MemreqError, match=r"x: line 1: "):
        list(events_of(f"{head}\n".encode(), "x"))


def test_of_a_test_that_ran_again_the_last_counts():
    results = results_after(judged(verdict="over"), judged(verdict="within"))
    assert [test.verdict for test in results.tests] == ["within"]


def test_a_test_runs_from_its_start_to_its_end():
    events = [Started(nodeid="b"), Started(nodeid="a"), Started(nodeid="c"), Ended(nodeid="b")]
    assert results_after(*events).running == ("a", "c")


def test_figures_of_a_test_that_was_cut_short_are_no_good_news():
    cut = CutShort(nodeid="a", outcome="failed")
    (test,) = results_after(cut, judged()).tests
    assert (test.verdict, test.reason) == ("error", "a subtest failed: less was run")
    (test,) = results_after(cut, judged(verdict="over")).tests
    assert test.verdict == "over"


def test_what_a_test_left_is_added_to_it():
    left = Left(nodeid="a", leaked_bytes=7)
    assert results_after(judged(), left).tests[0].leaked_bytes == 7
    assert results_after(left).tests == ()


def test_the_environment_is_that_of_a_test_that_had_one():
    unknown = judged("b", environment=Environment(), mode=None, verdict="unchecked")
    assert results_after(judged(), unknown).environment == KNOWN
