import gc

import pytest
import torch

from pytest_memreq.measure.backends import Backend
from pytest_memreq.measure.meter import DeviceMeter
from pytest_memreq.measure.overhead import PAIRS, Stopwatch, levels, own_peak
from pytest_memreq.measure.selftest import Outcome, Workload, measure, measure_all, orders
from pytest_memreq.measure.workloads import WORKLOADS
from pytest_memreq.requirement import Peak


class ScriptedCard(Backend):
    """Its allocator keeps `residue_bytes` of the first allocation for good, as a library might."""

    def __init__(self, residue_bytes=0):
        self.live = self.most = self.count = 0
        self.residue_bytes = residue_bytes

    def allocate(self, size_bytes):
        self.live += size_bytes
        self.count += 1
        self.most = max(self.most, self.live)

    def free(self, size_bytes):
        self.live -= size_bytes - self.residue_bytes
        self.residue_bytes = 0

    def device(self):
        return torch.device("cpu")

    def card_name(self):
        return "Scripted card"

    def capacity_bytes(self):
        return 10_000

    def synchronize(self):
        pass

    def release_unused(self):
        pass

    def reset_peaks(self):
        self.most = self.live

    def peak(self):
        return Peak(requested_bytes=self.most, allocated_bytes=self.most)

    def allocated_bytes(self):
        return self.live

    def allocation_count(self):
        return self.count


class WentWrongError(Exception):
    pass


@pytest.fixture(autouse=True)
def quick_collections():
    """Only what a test makes is looked through; torch's objects take a quarter of a second."""
    gc.freeze()
    yield
    gc.unfreeze()


def takes(card, name, size_bytes, error=None, raises=()):
    def run(_):
        card.allocate(size_bytes)
        card.free(size_bytes)
        if error is not None:
            raise error

    return Workload(name=name, run=run, raises=raises)


def three(card):
    return [takes(card, name, size) for name, size in (("a", 100), ("b", 2_000), ("c", 30))]


def find_out(make_card, make_workloads=three, repeats=8):
    """Each measurement alone has a card of its own, as a process would."""

    def alone(workload):
        fresh = make_card()
        [same] = [w for w in make_workloads(fresh) if w.name == workload.name]
        return measure(DeviceMeter([fresh]), fresh.device(), same)

    card, lines = make_card(), []
    reports = measure_all(
        DeviceMeter([card]),
        card.device(),
        make_workloads(card),
        alone=alone,
        repeats=repeats,
        say=lines.append,
    )
    return {report.name: report for report in reports}, lines


def test_a_steady_card_has_no_spread():
    reports, lines = find_out(ScriptedCard)
    assert [report.peak.allocated_bytes for report in reports.values()] == [100, 2_000, 30]
    for report in reports.values():
        assert report.is_steady
        assert report.spread_bytes("allocated") == 0
        assert report.spread_bytes("reserved") is None
        assert len(report.measurements) == 8
    assert lines[0] == "a: alone, in a process of its own"
    assert len(lines) == 3 + 7


def test_each_is_measured_alone_first_and_last():
    reports, _ = find_out(ScriptedCard)
    for report in reports.values():
        assert report.count("alone") == 1
        assert report.count("first") >= 2
        assert report.count("last") >= 2
        assert [m.after for m in report.measurements if m.circumstance == "alone"] == [None]


def test_a_peak_that_depends_on_the_order_is_told_with_its_circumstance():
    reports, _ = find_out(lambda: ScriptedCard(residue_bytes=8), repeats=4)
    assert [report.is_steady for report in reports.values()] == [False, False, False]
    assert [report.spread_bytes("allocated") for report in reports.values()] == [8, 8, 8]
    # `a` was the first on its card twice: alone, and as the first of the first round.
    odd = [(d.metric, d.circumstance, d.after, d.bytes) for d in reports["b"].differences]
    assert odd == [("requested", "alone", None, 2_000), ("allocated", "alone", None, 2_000)]
    assert {d.usual_bytes for d in reports["b"].differences} == {2_008}


def test_what_differs_says_what_ran_before():
    def run(card):
        def after_b(_):
            card.allocate(50 if getattr(card, "did_b", False) else 40)
            card.did_b = False
            card.live = 0

        def b(_):
            card.did_b = True

        return [Workload(name="a", run=after_b), Workload(name="b", run=b), takes(card, "c", 1)]

    reports, _ = find_out(ScriptedCard, run, repeats=12)
    found = reports["a"].differences
    assert found
    assert {d.after for d in found if d.bytes == 50} <= {"b"}
    assert reports["b"].is_steady


def test_an_error_that_is_not_meant_is_said():
    def run(card):
        return [*three(card), takes(card, "broken", 5, error=RuntimeError("no kernel\nmore"))]

    reports, _ = find_out(ScriptedCard, run, repeats=3)
    assert not reports["broken"].is_steady
    assert reports["broken"].peak is None
    assert reports["broken"].failures == (
        "alone: RuntimeError in run: no kernel",
        *(
            f"{m.circumstance}: RuntimeError in run: no kernel"
            for m in reports["broken"].measurements[1:]
        ),
    )
    assert reports["a"].is_steady


def test_an_error_that_no_device_gives_is_not_caught():
    with pytest.raises(ZeroDivisionError):
        find_out(ScriptedCard, lambda card: [takes(card, "a", 5, error=ZeroDivisionError())])


def test_an_error_that_belongs_to_the_work_is_none_and_its_absence_is():
    def run(card):
        return [
            takes(card, "fails", 5, error=WentWrongError(), raises=(WentWrongError,)),
            takes(card, "does not", 5, raises=(WentWrongError,)),
        ]

    reports, _ = find_out(ScriptedCard, run, repeats=2)
    assert reports["fails"].is_steady
    assert reports["does not"].failures[0] == "alone: did not raise WentWrongError"


def test_the_frames_of_an_error_hold_nothing_afterwards():
    card = ScriptedCard()
    freed = []

    class Block:
        def __del__(self):
            freed.append(card.most)

    def run(_):
        block = Block()
        card.allocate(7)
        raise WentWrongError(str(block)[:0])

    work = Workload(name="fails", run=run, raises=(WentWrongError,))
    assert measure(DeviceMeter([card]), card.device(), work).peak.allocated_bytes == 7
    assert freed == [7]


def test_work_that_cannot_run_is_skipped_with_its_reason():
    def run(card):
        unusable = Workload(name="x", run=lambda _: 1 / 0, unusable=lambda device: f"no {device}")
        return [unusable, *three(card)]

    reports, lines = find_out(ScriptedCard, run)
    assert (reports["x"].skipped, reports["x"].measurements) == ("no cpu", ())
    assert not [line for line in lines if "x" in line.split(":")[0]]
    assert reports["a"].is_steady


def test_orders_are_the_same_each_time_and_give_each_both_ends():
    names = ["a", "b", "c", "d"]
    rounds = orders(names, 8)
    assert rounds == orders(names, 8)
    assert rounds != orders(names, 8, seed=3)
    assert all(sorted(order) == names for order in rounds)
    assert {order[0] for order in rounds} == {order[-1] for order in rounds} == set(names)
    assert orders(["a"], 2) == (("a",), ("a",))
    assert orders([], 2) == ((), ())


def test_times_come_in_pairs_of_equal_length():
    card, calls = ScriptedCard(), []
    work = Workload(name="w", run=calls.append)
    found = Stopwatch(DeviceMeter([card]), card, work).step_time()
    assert len(calls) == 2 + PAIRS * 2 * (1 + found.steps)
    assert found.step_seconds > 0
    assert found.around_seconds > 0


def test_the_meter_takes_nothing_itself_and_what_stays_is_seen():
    card = ScriptedCard(residue_bytes=16)
    meter = DeviceMeter([card])
    before = levels(meter, [card])
    assert own_peak(meter, card.device()) == Outcome(
        peak=Peak(requested_bytes=0, allocated_bytes=0)
    )
    measure(meter, card.device(), takes(card, "a", 20))
    assert levels(meter, [card]).allocated_bytes - before.allocated_bytes == 16
    assert before.reserved_bytes is None


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_every_workload_runs(workload):
    device = torch.device("cpu")
    assert workload.unusable(device) == ""
    if workload.raises:
        with pytest.raises(workload.raises):
            workload.run(device)
    else:
        workload.run(device)
