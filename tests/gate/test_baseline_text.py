"""The file: the same text for the same entries, a line a figure, mergeable, and read strictly."""

import difflib
import json
import shutil
import subprocess
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_memreq import MemreqError
from pytest_memreq.gate.baseline import Baseline, baseline_of
from pytest_memreq.gate.baseline_text import from_text, to_text
from pytest_memreq.gate.largest import Largest, Thing
from pytest_memreq.requirement import METRICS, Breakdown, Peak
from tests.gate.baselines import BASELINES, ENTRIES, H200, L4, entry
from tests.reports.hostile import NAMES

FULL = replace(
    entry(),
    peak=Peak(requested_bytes=1, allocated_bytes=2, reserved_bytes=3),
    breakdown=Breakdown(activations_bytes=2),
    largest=Largest(
        things=(
            Thing(category="activations", module="head", shape=(2, 3), dtype="int8", bytes=1),
            Thing(category="other", bytes=1),
        ),
        rest_bytes=0,
    ),
)
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")


def read(text):
    return from_text(text.encode(), "here")


def error_of(content):
    with pytest.raises(MemreqError) as raised:
        from_text(content, "here")
    message = str(raised.value)
    assert message.startswith("here")
    assert len(message.splitlines()) == 1
    assert message.isascii()
    return message


def changed_lines(old, new):
    """(lines that go, lines that come) from one baseline to the other."""
    texts = [to_text(baseline).splitlines() for baseline in (old, new)]
    diff = list(difflib.ndiff(*texts))
    return [sum(line.startswith(sign) for line in diff) for sign in "-+"]


@given(BASELINES)
def test_what_is_written_comes_back(baseline):
    assert read(to_text(baseline)) == baseline


@pytest.mark.parametrize("name", NAMES)
def test_any_name_comes_back_from_plain_lines(name):
    baseline = baseline_of([entry(nodeid=name, device=replace(H200, gpu=name, allocator=name))])
    text = to_text(baseline)
    assert text.isascii()
    assert text.isprintable() or set(text) - set(map(chr, range(32, 127))) == {"\n"}
    assert read(text) == baseline


@given(st.lists(ENTRIES, max_size=4, unique_by=lambda each: each.order), st.randoms())
def test_the_text_is_sorted_and_the_same_in_any_order(entries, random):
    text = to_text(baseline_of(random.sample(entries, len(entries))))
    assert text == to_text(baseline_of(entries))
    nodeids = [each["nodeid"] for each in json.loads(text)["entries"][:-1]]
    assert nodeids == sorted(nodeids)


@given(BASELINES)
def test_reading_and_writing_changes_nothing(baseline):
    text = to_text(baseline)
    assert to_text(read(text)) == text
    assert to_text(read(text.replace("\n", "\r\n"))) == text
    assert to_text(read("\ufeff" + text)) == text
    assert to_text(read(json.dumps(json.loads(text)))) == text


def test_entries_may_come_in_any_order():
    raw = json.loads(to_text(baseline_of([entry("a"), entry("b")])))
    raw["entries"][:2] = raw["entries"][1::-1]
    assert read(json.dumps(raw)) == baseline_of([entry("a"), entry("b")])


@given(ENTRIES, ENTRIES, st.sampled_from(METRICS), st.none() | st.integers(0, 2**62))
def test_a_figure_of_the_peak_is_a_line(one, other, metric, size):
    before = baseline_of([one, other])
    first = before.entries[0]
    changed = replace(first, peak=replace(first.peak, **{f"{metric}_bytes": size}))
    after = baseline_of([changed, *before.entries[1:]])
    lines = 0 if changed == first else 1
    assert changed_lines(before, after) == [lines, lines]


@pytest.mark.parametrize(
    "changed",
    [
        replace(FULL, breakdown=Breakdown(activations_bytes=3)),
        replace(FULL, breakdown=Breakdown(activations_bytes=2, other_bytes=0)),
        replace(FULL, largest=replace(FULL.largest, rest_bytes=7)),
        replace(FULL, largest=replace(FULL.largest, rest_bytes=None)),
        replace(
            FULL,
            largest=replace(
                FULL.largest,
                things=(replace(FULL.largest.things[0], bytes=9), FULL.largest.things[1]),
            ),
        ),
        replace(FULL, device=replace(H200, torch="2.14")),
    ],
)
def test_any_figure_is_a_line(changed):
    around = [entry("test_0.py::a"), entry("test_z.py::z")]
    before, after = baseline_of([*around, FULL]), baseline_of([*around, changed])
    assert changed_lines(before, after) == [1, 1]


def test_a_thing_more_or_less_is_a_line():
    for n in (0, 1):
        fewer = replace(FULL, largest=replace(FULL.largest, things=FULL.largest.things[n : n + 1]))
        assert changed_lines(baseline_of([FULL]), baseline_of([fewer])) == [1, 0]


def test_a_test_more_only_adds_lines():
    three = [entry(f"test_{name}.py::t") for name in "abc"]
    for each in three:
        others = [other for other in three if other is not each]
        gone, come = changed_lines(baseline_of(others), baseline_of(three))
        assert gone == 0
        assert come == len(to_text(baseline_of([each])).splitlines()) - 3


def test_a_diff_shows_the_test_beside_each_figure_of_its_peak():
    """With the three lines around a change that git shows."""
    lines = to_text(baseline_of([FULL])).splitlines()
    at = next(n for n, line in enumerate(lines) if FULL.nodeid in line)
    for metric in ("requested", "allocated", "reserved"):
        line = next(n for n, text in enumerate(lines) if f'"{metric}_bytes"' in text)
        assert 0 < line - at <= 3


def merged(directory, base, ours, theirs):
    """What git makes of three baselines; fails where it finds a conflict."""
    names = ("ours", "base", "theirs")
    for name, entries in zip(names, (ours, base, theirs), strict=True):
        (directory / name).write_text(to_text(baseline_of(entries)))
    command = ["git", "merge-file", "-p", *names]
    done = subprocess.run(command, cwd=directory, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout.decode()
    return from_text(done.stdout, "merged")


def merged_as_branches(directory, base, ours, theirs):
    """What `git merge` makes of them, which compares otherwise than `git merge-file`."""
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")

    def git(*words):
        command = ["git", *who, *words]
        subprocess.run(command, cwd=directory, check=True, capture_output=True, timeout=60)

    git("init", "-q", "-b", "theirs")
    for branch, entries in (("theirs", base), ("ours", ours), ("theirs", theirs)):
        if branch == "ours":
            git("checkout", "-q", "-b", "ours")
        elif entries is theirs:
            git("checkout", "-q", "theirs")
        (directory / "baseline").write_text(to_text(baseline_of(entries)))
        git("add", "baseline")
        git("commit", "-q", "-m", branch)
    git("merge", "-q", "ours")
    return from_text((directory / "baseline").read_bytes(), "merged")


@needs_git
@pytest.mark.parametrize(
    ("base", "ours", "theirs"),
    [
        ("b", "a", "c"),  # first and last
        ("bd", "a", "c"),
        ("bd", "c", "e"),
        ("bd", "ac", "e"),
        ("bdf", "ce", "a"),
    ],
)
def test_branches_that_add_different_tests_merge(tmp_path, base, ours, theirs):
    def of(names):
        return [replace(FULL, nodeid=f"test_{name}.py::test") for name in names]

    both = merged(tmp_path, of(base), of(base + ours), of(base + theirs))
    assert both == baseline_of(of(base + ours + theirs))


@needs_git
def test_branches_that_change_neighbours_merge(tmp_path):
    """One adds a test between, removes another, and the other changes what stands next to them."""
    a, b, c, d = (replace(FULL, nodeid=f"test_{name}.py::test") for name in "abcd")
    larger_a = replace(a, largest=replace(a.largest, rest_bytes=9))
    larger_c = replace(c, peak=replace(c.peak, allocated_bytes=9))
    branches = [a, c, d], [a, b, c], [larger_a, larger_c, d]
    assert merged_as_branches(tmp_path, *branches) == baseline_of([larger_a, b, larger_c])


@needs_git
@given(
    base=st.sets(st.integers(0, 30), max_size=6),
    ours=st.sets(st.integers(0, 30), max_size=3),
    theirs=st.sets(st.integers(0, 30), max_size=3),
)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_added_in_different_places_merges(tmp_path, base, ours, theirs):
    ours, theirs = ours - base, theirs - base - ours

    def gap(number):
        return sum(other < number for other in base)

    if {gap(number) for number in ours} & {gap(number) for number in theirs}:
        return  # in the same place: no text merge can know which comes first

    def of(numbers):
        return [entry(f"test.py::t{number:02}", number) for number in numbers]

    both = merged(tmp_path, of(base), of(base | ours), of(base | theirs))
    assert both == baseline_of(of(base | ours | theirs))


@needs_git
def test_a_conflict_left_in_the_file_is_named(tmp_path):
    a, b = (replace(FULL, nodeid=f"test_{name}.py::test") for name in "ab")
    for name, entries in (("ours", [a]), ("base", []), ("theirs", [b])):
        (tmp_path / name).write_text(to_text(baseline_of(entries)))
    command = ["git", "merge-file", "ours", "base", "theirs"]
    subprocess.run(command, cwd=tmp_path, check=False, timeout=60)
    message = error_of((tmp_path / "ours").read_bytes())
    assert message == "here: line 3: has the marks of a git conflict; resolve it first"


@needs_git
def test_a_union_of_both_sides_of_a_conflict_is_read_right_or_refused(tmp_path):
    a, b = (replace(FULL, nodeid=f"test_{name}.py::test") for name in "ab")
    for name, entries in (("ours", [a]), ("base", []), ("theirs", [b])):
        (tmp_path / name).write_text(to_text(baseline_of(entries)))
    command = ["git", "merge-file", "--union", "ours", "base", "theirs"]
    subprocess.run(command, cwd=tmp_path, check=False, timeout=60)
    with suppress(MemreqError):
        assert from_text((tmp_path / "ours").read_bytes(), "") == baseline_of([a, b])


def raw_full():
    return json.loads(to_text(baseline_of([FULL])))


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("more",), 1, "here: unknown 'more'; known are format, entries"),
        (("format",), 2, "here: is of format 2, made by a newer version; this one reads 1"),
        (("format",), 0, 'here: has "format" 0; right is 1'),
        (("format",), True, 'here: has "format" true; right is 1'),
        (("entries",), {}, 'here: has "entries" that do not end with "end"'),
        (("entries",), [], 'that do not end with "end"'),
        (("entries", 1), "End", 'that do not end with "end"'),
        (("entries", 0), "end", "here: entries[0]: 'end' is not an object"),
        (("entries", 0, "more"), 1, "here: entries[0]: unknown 'more'; known are nodeid, device"),
        (("entries", 0, "nodeid"), 1, "here: entries[0].nodeid: 1 is not text"),
        (("entries", 0, "peak", "alocated_bytes"), 1, "entries[0].peak: unknown 'alocated_bytes'"),
        (("entries", 0, "peak", "allocated_bytes"), "1", "allocated_bytes: '1' is not a whole"),
        (("entries", 0, "peak", "allocated_bytes"), -1, "allocated_bytes: -1 is not from 0"),
        (("entries", 0, "peak"), None, "entries[0].peak: null is not an object"),
        (
            ("entries", 0, "peak"),
            dict.fromkeys([f"{m}_bytes" for m in METRICS]),
            "entries[0].peak: not one figure is known",
        ),
        (("entries", 0, "breakdown", "x_bytes"), 1, "entries[0].breakdown: unknown 'x_bytes'"),
        (("entries", 0, "device", "gpu"), 1, "entries[0].device.gpu: 1 is not text"),
        (("entries", 0, "device", "cuda"), 1, "entries[0].device: unknown 'cuda'"),
        (("entries", 0, "device"), "H200", "entries[0].device: 'H200' is not an object"),
        (("entries", 0, "largest"), [], "entries[0].largest: a list does not end with"),
        (("entries", 0, "largest"), {}, "entries[0].largest: an object does not end with"),
        (("entries", 0, "largest", 2), {}, "entries[0].largest[2]: has no 'rest_bytes'"),
        (("entries", 0, "largest", 2, "rest_bytes"), 1.5, "rest_bytes: 1.5 is not a whole"),
        (("entries", 0, "largest", 0), 1, "entries[0].largest[0]: 1 is not an object"),
        (("entries", 0, "largest", 0, "bytes"), None, "bytes: null is not a whole number"),
        (("entries", 0, "largest", 0, "shape"), [1, "2"], "shape[1]: '2' is not a whole"),
        (("entries", 0, "largest", 0, "line"), 1, "largest[0]: unknown 'line'"),
    ],
)
def test_what_does_not_fit_is_named(place, value, words):
    raw = inner = raw_full()
    *path, key = place
    for step in path:
        inner = inner[step]
    inner[key] = value
    assert words in error_of(json.dumps(raw).encode())


@pytest.mark.parametrize(
    "place",
    [
        ("format",),
        ("entries",),
        *(("entries", 0, key) for key in ("nodeid", "peak", "device", "breakdown", "largest")),
        ("entries", 0, "peak", "device_bytes"),
        ("entries", 0, "device", "allocator"),
        ("entries", 0, "breakdown", "other_bytes"),
        ("entries", 0, "largest", 0, "dtype"),
    ],
)
def test_a_line_that_is_lost_is_missed(place):
    raw = inner = raw_full()
    *path, key = place
    for step in path:
        inner = inner[step]
    del inner[key]
    assert key in error_of(json.dumps(raw).encode())


def test_no_line_can_be_lost_without_an_error():
    lines = to_text(baseline_of([FULL, entry(device=L4)])).splitlines()
    whole = read("\n".join(lines))
    for n in range(len(lines)):
        with suppress(MemreqError):
            left = read("\n".join(lines[:n] + lines[n + 1 :]))
            assert {each.peak for each in left.entries} == {each.peak for each in whole.entries}


def test_an_entry_that_is_there_twice_is_refused():
    raw = raw_full()
    raw["entries"] = [raw["entries"][0], *raw["entries"]]
    assert error_of(json.dumps(raw).encode()) == (
        "here: has 'test_a.py::test_a' twice for 'simulated on NVIDIA H200, torch 2.13'"
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not JSON"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"format": 1, "format": 1}', "has 'format' twice"),
        (b'{"format": NaN}', "has NaN"),
        (to_text(Baseline()).encode("utf-16"), "is not UTF-8"),
        (to_text(baseline_of([FULL])).encode()[:-30], "is not JSON"),
    ],
    ids=range(6),
)
def test_what_is_no_baseline_is_one_line(content, words):
    assert words in error_of(content)


@given(st.data())
def test_whatever_stands_in_a_place_is_read_or_named(data):
    raw = inner = raw_full()
    while True:
        key = data.draw(st.sampled_from([*inner] if isinstance(inner, dict) else range(len(inner))))
        if not isinstance(inner[key], (dict, list)) or not inner[key] or data.draw(st.booleans()):
            break
        inner = inner[key]
    inner[key] = data.draw(
        st.sampled_from([None, True, -1, 1.5, 2**63, 10**400, "", "\ud800", [], [1], {}, {"a": 1}])
    )
    with suppress(MemreqError):  # nothing else is let pass
        from_text(json.dumps(raw).encode(), "here")
