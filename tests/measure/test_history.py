"""The replay of a memory history, and what is made of it: written by hand, drawn, recorded."""

import gzip
import json
from itertools import count, pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pytest_memreq.measure.breakdowns import Mark, break_down, marks_of, sites_of
from pytest_memreq.measure.labels import Labels
from pytest_memreq.measure.phases import Change, Phase, Sources, places_of
from pytest_memreq.measure.traces import (
    ALLOC,
    FREE,
    Block,
    blocks_in_use,
    lives,
    operations,
    over_time,
    peak_of,
    undone,
    without,
)

RECORDINGS = Path(__file__).parents[2].parent / "shared" / "data" / "traces"
ACTIONS = {"a": ALLOC, "r": FREE, "f": "free_completed", "A": "segment_alloc", "o": "oom"}
GRAIN = 512
KIB = 1024


def alloc(address, size, *frames):
    return {"action": ALLOC, "addr": address, "size": size, "frames": list(frames)}


def free(address, *frames):
    return {"action": FREE, "addr": address, "size": 0, "frames": list(frames)}


def line(name, number, function="f"):
    return {"filename": name, "line": number, "name": function}


def in_use(address, size, born=0):
    return Block(address=address, block_bytes=size, born=born)


def live_bytes(blocks, moment):
    return sum(block.block_bytes for block in blocks if block.is_live(moment))


class TestReplay:
    def test_what_was_there_counts_until_it_is_freed(self):
        start = [in_use(1, 4 * KIB)]
        blocks = lives(start, [free(1), alloc(2, KIB)], [], 2)
        assert [live_bytes(blocks, moment) for moment in range(3)] == [4 * KIB, 0, KIB]
        assert peak_of(blocks, 0) == 0

    def test_a_size_is_rounded_unless_the_block_is_still_there(self):
        events = [alloc(1, 1), alloc(2, 513), alloc(3, 0)]
        blocks = lives([], events, [in_use(2, 2 * KIB)], 3)
        assert [block.block_bytes for block in blocks] == [GRAIN, 2 * KIB, GRAIN]

    def test_an_address_that_is_used_again_is_another_block(self):
        blocks = lives([], [alloc(1, 512), free(1), alloc(1, 1024), free(1)], [], 14)
        assert [(b.born, b.died, b.block_bytes) for b in blocks] == [
            (11, 12, 512),
            (13, 14, 1024),
        ]

    def test_the_first_of_equal_peaks_counts(self):
        blocks = lives([], [alloc(1, 512), free(1), alloc(2, 512)], [], 3)
        assert peak_of(blocks, 0) == 1

    def test_a_free_counts_when_it_is_requested(self):
        trace = [alloc(1, 1), {"action": "free_completed", "addr": 1, "size": 1}, free(1)]
        assert [event["action"] for event in operations(trace)] == [ALLOC, FREE]

    def test_what_others_left_does_not_count_but_what_came_after_it_does(self):
        start = [in_use(1, 8 * KIB)]
        blocks = lives(start, [alloc(2, KIB), free(1), alloc(1, 512)], [], 3)
        counted = without(blocks, {1}, 0)
        assert [live_bytes(counted, moment) for moment in range(4)] == [0, KIB, KIB, KIB + 512]
        assert without(blocks, {2}, 0) == blocks

    def test_a_snapshot_gives_the_blocks_in_use_of_one_device(self):
        blocks = [
            {"address": 1, "size": 512, "state": "active_allocated", "frames": []},
            {"address": 2, "size": 512, "state": "active_awaiting_free", "frames": []},
            {"address": 3, "size": 512, "state": "inactive", "frames": []},
        ]
        segments = [{"device": index, "blocks": blocks} for index in (0, 1)]
        (found,) = blocks_in_use(segments, 1, 7)
        assert (found.address, found.block_bytes, found.born) == (1, 512, 7)

    def test_a_cut_trace_is_undone_from_its_end(self):
        events = [{**free(1), "size": 600}, alloc(1, 512), alloc(2, 512), free(2)]
        start = undone(events, [in_use(1, 512), in_use(3, 1024)], 5)
        assert [(b.address, b.block_bytes, b.born) for b in start] == [(1, 1024, 5), (3, 1024, 5)]
        assert start[0].frames is None  # that of its free is not where it was made


@st.composite
def histories(draw):
    """(start, events, addresses left): an address is free or in use, as in an allocator."""
    sizes = st.integers(1, 4).map(lambda grains: grains * GRAIN)
    live = draw(st.dictionaries(st.integers(0, 5), sizes))
    start = [in_use(address, size) for address, size in live.items()]
    left = draw(st.sets(st.sampled_from(sorted(live)))) if live else set()
    events = []
    for address, size in draw(st.lists(st.tuples(st.integers(0, 5), sizes))):
        events.append(free(address) if address in live else alloc(address, size))
        if live.pop(address, None) is None:
            live[address] = size
    return start, events, {(0, address) for address in left}


def naive_sums(start, events, left):
    """The sums after each event, counted with nothing but a dictionary."""
    live = {b.address: 0 if (0, b.address) in left else b.block_bytes for b in start}
    sums = [sum(live.values())]
    for event in events:
        live[event["addr"]] = event["size"]
        if event["action"] == FREE:
            del live[event["addr"]]
        sums.append(sum(live.values()))
    return sums


@given(histories(), st.integers(0, 100))
def test_the_peak_is_that_of_a_naive_recount(history, began):
    start, events, left = history
    start = [in_use(b.address, b.block_bytes, born=began) for b in start]
    addresses = {address for _, address in left}
    blocks = without(lives(start, events, [], began + len(events)), addresses, began)
    sums = naive_sums(start, events, left)
    assert [live_bytes(blocks, began + n) for n in range(len(sums))] == sums
    assert peak_of(blocks, began) == began + sums.index(max(sums))
    points = over_time(blocks, began)
    assert all(sums[moment - began] == size for moment, size in points)
    assert max(size for _, size in points) == max(sums)
    assert not any((0, b.address) in left and b.born == began for b in blocks)


@given(histories())
def test_blocks_of_one_address_follow_each_other(history):
    start, events, _ = history
    blocks = lives(start, events, [], len(events))
    for address in range(6):
        mine = [block for block in blocks if block.address == address]
        assert all(a.died is not None and a.died < b.born for a, b in pairwise(mine))


@given(histories())
def test_undoing_finds_what_was_there_and_was_freed_or_stayed(history):
    start, events, _ = history
    events = [{**event, "size": event["size"] or GRAIN} for event in events]
    final = [b for b in lives(start, events, [], len(events)) if b.died is None]
    found = undone(events, final, 0)
    assert {b.address for b in found} == {b.address for b in start}


def recordings():
    return sorted(RECORDINGS.glob("*.json.gz"))


@pytest.mark.skipif(not recordings(), reason="no recorded traces beside the checkout")
@pytest.mark.parametrize("path", recordings(), ids=lambda path: path.name.removesuffix(".json.gz"))
def test_a_recording_is_replayed_to_what_was_there_at_its_end(path):
    with gzip.open(path) as file:
        (device,) = json.load(file)["devices"]
    events = operations(
        {"action": ACTIONS.get(action, action), "addr": address, "size": size}
        for action, address, size, _ in device["events"]
    )
    final = [
        in_use(address, size)
        for *_, blocks in device["final_segments"]
        for address, size, _, state in blocks
        if state == "active_allocated"
    ]
    blocks = lives(undone(events, final, 0), events, final, len(events))
    peak = peak_of(blocks, 0)
    assert {(b.address, b.block_bytes) for b in blocks if b.died is None} == {
        (b.address, b.block_bytes) for b in final
    }
    assert live_bytes(blocks, len(events)) == sum(b.block_bytes for b in final)
    assert live_bytes(blocks, peak) >= live_bytes(blocks, len(events))
    assert len(blocks) == sum(e["action"] == ALLOC for e in events) + sum(
        b.born == 0 for b in blocks
    )


class TestMarks:
    def test_a_mark_is_of_the_block_that_was_alive_then(self):
        blocks = lives([], [alloc(1, 1), free(1), alloc(1, 1), free(1), alloc(1, 1)], [], 5)
        marks = marks_of(blocks, [Mark(address=1, moment=3, category="gradients")])
        assert {block.born: mark.category for block, mark in marks.items()} == {3: "gradients"}

    def test_a_weight_that_is_handed_over_is_no_input_and_keeps_its_module(self):
        (block,) = lives([], [alloc(1, 1)], [], 1)
        made = [("inputs", None), ("parameters", None), ("parameters", "head")]
        marks = [Mark(address=1, moment=1, category=c, module=module) for c, module in made]

        assert marks_of([block], marks)[block] == marks[2]


class TestPlaces:
    SOURCES = Sources(torch="/lib/torch/", ours="/lib/pytest_memreq/", here=Path("/home/project"))
    MAIN = line("/usr/bin/pytest.py", 1, "<module>")
    USER = line("/home/project/pkg/model.py", 88)
    LINEAR = line("/lib/torch/nn/modules/linear.py", 5)

    def told(self, events, changes=(), phases=None):
        blocks = lives([], events, [], len(events))
        places = places_of(blocks, changes, phases or {}, self.SOURCES, 0)
        return blocks, places

    @pytest.mark.parametrize(
        ("frames", "source"),
        [
            ((LINEAR, USER, MAIN), "pkg/model.py:88"),
            ((line("/lib/pytest_memreq/measure/x.py", 1), USER), "pkg/model.py:88"),
            ((line("/lib/transformers/models/t5.py", 7), USER), "models/t5.py:7"),
            ((line("<frozen runpy>", 7), line("??", 0)), None),
            ((line("/tmp/torchinductor_me/ab/cab.py", 7), USER), "pkg/model.py:88"),
            ((), None),
        ],
    )
    def test_the_source_is_the_innermost_line_of_the_users(self, frames, source):
        assert self.SOURCES.line(frames) == source

    def test_what_is_alive_after_a_recorded_forward_is_an_activation(self):
        here = (self.LINEAR, self.USER, self.MAIN)
        events = [alloc(1, 512, *here), alloc(2, 512, *here), free(2, *here), free(1, self.MAIN)]
        changes = [Change(moment=0, module="head", phase=0), Change(moment=3)]
        for is_recorded, word in ((True, "activations"), (False, "other")):
            phases = {0: Phase(kind="forward", ended=3, is_recorded=is_recorded)}
            blocks, places = self.told(events, changes, phases)
            sites = sites_of(blocks, {}, places)
            assert {site.category for site in sites} == {word, "temporaries"}
            assert str(places[blocks[1]]) == "forward of head, pkg/model.py:88"

    def test_backward_is_named_by_the_line_that_called_it(self):
        start = line("/lib/torch/autograd/__init__.py", 9, "_make_grads")
        events = [
            alloc(1, 512, self.USER, self.MAIN),
            alloc(2, 512, start, self.USER, self.MAIN),
            alloc(3, 512),
            alloc(4, 512),
            free(3),
            free(4, self.USER, self.MAIN),
            alloc(5, 512, self.USER, self.MAIN),
        ]
        blocks, places = self.told(events)
        assert [str(places[block]) for block in blocks] == [
            "pkg/model.py:88",
            *["backward, pkg/model.py:88"] * 3,
            "pkg/model.py:88",
        ]
        words = {s.category: s.count for s in sites_of(blocks, {}, places)}
        assert words == {"other": 4, "temporaries": 1}

    def test_a_history_without_stacks_tells_no_backward(self):
        blocks, places = self.told([alloc(1, 512), free(1)])
        assert places[blocks[0]].phase is None

    def test_equal_blocks_are_one_site_and_every_word_but_the_context_is_known(self):
        blocks, places = self.told([alloc(n, 512 * n, self.USER, self.MAIN) for n in (1, 2, 3)])
        sites = sites_of(blocks, {}, places)
        assert [(s.bytes, s.count, s.source) for s in sites] == [(3072, 3, "pkg/model.py:88")]
        unknown = [word for word, size in break_down(sites).items() if size is None]
        assert (unknown, break_down(sites).other_bytes) == (["context"], 3072)


class TestFollowing:
    def test_phases_nest_as_modules_and_steps_do(self):
        model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
        optimizer = torch.optim.SGD(model.parameters())
        labels = Labels(0, count().__next__)
        with labels.following():
            optimizer.step(lambda: model(torch.ones(1, 2)).sum())
            with torch.no_grad():
                model(torch.ones(1, 2))
        model(torch.ones(1, 2))
        root = "Sequential"
        forward = [(root, 1), ("0", 1), (root, 1), ("1", 1), (root, 1)]
        assert [(c.module, c.phase) for c in labels.changes] == [
            *[("", 0), *forward, ("", 0), (None, None)],
            *[(module, 2) for module, _ in forward],
            (None, None),
        ]
        assert [(p.kind, p.is_recorded) for p in labels.phases(99).values()] == [
            ("optimizer", False),
            ("forward", True),
            ("forward", False),
        ]

    def test_a_forward_that_raises_is_left(self):
        class Failing(torch.nn.Module):
            def forward(self, _x):
                raise ValueError

        labels = Labels(0, lambda: 0)
        with labels.following():
            with pytest.raises(ValueError):  # noqa: PT011
                torch.nn.Sequential(Failing())(torch.ones(1))
            torch.nn.ReLU()(torch.ones(1))
        assert [c.module for c in labels.changes[-2:]] == ["ReLU", None]

    @pytest.mark.filterwarnings("ignore:Guards may run slower")  # of torch, on Python 3.13.0 alone
    def test_what_is_compiled_is_compiled_as_without_us(self):
        graphs = []

        def backend(graph, _inputs):
            graphs.append([n.target for n in graph.graph.nodes if n.op == "call_function"])
            return graph.forward

        def twice(x):
            return model(model(x))

        model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
        torch.compile(twice, backend=backend)(torch.ones(1, 2))
        with Labels(0, lambda: 0).following():
            torch._dynamo.reset()
            torch.compile(twice, backend=backend)(torch.ones(1, 2))
        assert len(graphs) == 2
        assert graphs[0] == graphs[1]

    @pytest.mark.parametrize(
        "work",
        [
            lambda: torch.nn.LazyLinear(2)(torch.ones(1, 2)),
            lambda: torch.func.vmap(torch.nn.Linear(2, 2))(torch.ones(3, 1, 2)),
            lambda: torch.nn.Linear(2, 2, device="meta")(torch.ones(1, 2, device="meta")),
            lambda: torch.nn.ReLU()(torch.eye(2).to_sparse()),
        ],
        ids=["lazy", "vmap", "meta", "sparse"],
    )
    def test_tensors_without_memory_of_their_own_are_passed_over(self, work):
        labels = Labels(0, lambda: 0)
        with labels.following():
            work()
        labels.mark_all()
        assert labels.marks == []
