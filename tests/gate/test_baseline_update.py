"""What a run changes in a baseline."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_memreq import MemreqError
from pytest_memreq.choices import WHICH
from pytest_memreq.gate.baseline import baseline_of
from pytest_memreq.gate.baseline_update import (
    WRITES,
    Change,
    Coverage,
    Found,
    check_may_update,
    stale,
    update,
    without,
)
from pytest_memreq.gate.largest import Largest
from pytest_memreq.gate.verdict import VERDICT_WORDS
from pytest_memreq.requirement import METRICS, Breakdown, Peak
from tests.gate.baselines import BASELINES, ENTRIES, H200, L4, entry

OLD = {word: entry(f"test_a.py::{word}") for word in VERDICT_WORDS}
BASELINE = baseline_of(OLD.values())
FOUND = [
    *(Found(entry=entry(f"test_a.py::{word}", 7), word=word) for word in VERDICT_WORDS),
    Found(entry=entry("test_a.py::new", 7), word=None),
]


@pytest.mark.parametrize(
    ("which", "written"),
    [
        ("new", {"new"}),
        ("failing", {"new", "regressed", "improved"}),
        ("all", {"new", *VERDICT_WORDS}),
    ],
)
def test_what_each_choice_writes(which, written):
    changed = update(BASELINE, FOUND, which)
    assert {change.new.nodeid.partition("::")[2] for change in changed.changes} == written
    for each in changed.baseline.entries:
        is_new = each.nodeid.partition("::")[2] in written
        assert each.peak.allocated_bytes == (7 if is_new else 1000)
    assert changed.kept == len(BASELINE.entries) - len(written - {"new"})


def test_a_change_has_both_sides():
    changed = update(BASELINE, FOUND, "failing")
    assert Change(old=None, new=entry("test_a.py::new", 7)) in changed.changes
    assert Change(old=OLD["regressed"], new=entry("test_a.py::regressed", 7)) in changed.changes


def test_another_torch_keeps_the_old_entry_beside_the_new_one():
    newer = entry(device=replace(H200, torch="2.14"))
    changed = update(baseline_of([entry()]), [Found(entry=newer, word="within")], "all")
    assert changed.changes == (Change(old=entry(), new=newer),)
    assert changed.baseline == baseline_of([entry(), newer])
    assert changed.kept == 1


NVML = Peak(allocated_bytes=1000, device_bytes=9000)


@pytest.mark.parametrize(
    ("device", "peak"),
    [
        (L4, Peak(allocated_bytes=2000, device_bytes=9000)),  # where NVML is not there today
        (replace(L4, torch="2.14"), Peak(allocated_bytes=2000)),  # it was another one's
    ],
)
def test_a_metric_that_the_run_does_not_know_stays_as_it_was(device, peak):
    old = replace(entry(device=L4), peak=NVML)
    new = entry(allocated_bytes=2000, device=device)
    changed = update(baseline_of([old]), [Found(entry=new, word="regressed")], "failing")
    assert changed.baseline.find(new.nodeid, device).entry.peak == peak


def test_a_breakdown_stays_where_its_peak_does():
    known = Breakdown(parameters_bytes=1000)
    old = replace(entry(), breakdown=known, largest=Largest(rest_bytes=0))
    for size, kept in ((1000, known), (1001, None)):
        changed = update(
            baseline_of([old]), [Found(entry=entry(allocated_bytes=size), word="within")], "all"
        )
        (found,) = changed.baseline.entries
        assert (found.breakdown, found.largest == old.largest) == (kept, kept is not None)


def test_other_devices_are_left_alone():
    changed = update(baseline_of([entry(device=L4)]), [Found(entry=entry(), word=None)], "all")
    assert changed.changes == (Change(old=None, new=entry()),)
    assert changed.baseline == baseline_of([entry(device=L4), entry()])


GONE = entry("test_a.py::gone")


@pytest.mark.parametrize(
    ("files", "nodeids", "devices", "is_stale"),
    [
        ({"test_a.py"}, {"test_a.py::there"}, [H200], True),
        ({"test_a.py"}, {"test_a.py::gone"}, [H200], False),  # deselected, perhaps
        ({"test_b.py"}, set(), [H200], False),  # another file
        (set(), set(), [H200], False),
        ({"test_a.py"}, set(), [], False),  # nothing ran
        ({"test_a.py"}, set(), [L4], False),  # its own device was not there
        ({"test_a.py"}, set(), [L4, replace(H200, torch="2.14")], True),
        ({"test_a.py::gone"}, set(), [H200], False),
        ({"test_a"}, set(), [H200], False),
    ],
)
def test_only_what_the_run_covered_is_stale(files, nodeids, devices, is_stale):
    coverage = Coverage(files=frozenset(files), nodeids=frozenset(nodeids), devices=tuple(devices))
    baseline = baseline_of([GONE])
    assert stale(baseline, coverage) == ((GONE,) if is_stale else ())
    changed = update(baseline, [], "new", coverage)
    assert changed.changes == ((Change(old=GONE, new=None),) if is_stale else ())
    assert changed.baseline == baseline_of([] if is_stale else [GONE])


@given(
    BASELINES,
    st.lists(ENTRIES, max_size=4, unique_by=lambda entry: entry.order),  # as those of a run are
    st.sampled_from(WHICH),
    st.data(),
)
def test_the_baseline_after_is_the_one_before_with_its_changes(baseline, entries, which, data):
    words = st.none() | st.sampled_from(VERDICT_WORDS)
    found = [Found(entry=each, word=data.draw(words)) for each in entries]
    changed = update(baseline, found, which)
    written = {each.entry.order: each.entry for each in found if each.word in WRITES[which]}
    before = {each.order: each for each in baseline.entries}
    after = {each.order: each for each in changed.baseline.entries}
    assert after.keys() == before.keys() | written.keys()
    assert all(after[order] == each for order, each in before.items() if order not in written)
    for order, new in written.items():
        old = before.get(order, new)
        for metric in METRICS:
            sizes = new.peak.of(metric), old.peak.of(metric)
            assert after[order].peak.of(metric) == next((s for s in sizes if s is not None), None)
        assert after[order].breakdown in (new.breakdown, old.breakdown)
    assert changed.is_empty == (changed.baseline == baseline)
    assert update(changed.baseline, found, which).is_empty or len(written) < len(found)


@given(BASELINES)
def test_leaving_out_all_leaves_nothing(baseline):
    changed = without(baseline, baseline.entries)
    assert changed.baseline.entries == ()
    assert (len(changed.changes), changed.kept) == (len(baseline.entries), 0)


@pytest.mark.parametrize("variables", [{}, {"CI": ""}, {"PATH": "/ci"}])
def test_one_may_update_on_ones_machine(variables):
    check_may_update(variables, is_forced=False)


@pytest.mark.parametrize("value", ["true", "1", "0", "false"])
def test_an_update_on_a_ci_server_has_to_be_forced(value):
    check_may_update({"CI": value}, is_forced=True)
    with pytest.raises(MemreqError, match=r"--memreq-update is refused where CI is set: .*-in-ci"):
        check_may_update({"CI": value}, is_forced=False)
