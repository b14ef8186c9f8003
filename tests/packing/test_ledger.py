"""Who has room: never more than a card has, nobody waits for ever, the first in line is next."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_memreq.packing.ledger import (
    Claim,
    capacity_of,
    fits,
    is_stuck,
    next_ticket,
    too_small,
)
from pytest_memreq.packing.record import MOST_CARDS, RECORD_BYTES, from_record, to_record

CARD = {0: 10}
CARDS = {0: 10, 1: 6}
SIZES = st.dictionaries(st.sampled_from(sorted(CARDS)), st.integers(0, 10), min_size=1)
# Of each worker its tests: what each has while it runs, and what of that stays behind.
TESTS = st.tuples(SIZES, st.sampled_from([0.0, 0.0, 0.0, 0.5, 1.0]))
SUITES = st.lists(st.lists(TESTS, min_size=1, max_size=5), min_size=1, max_size=5)


def waiting(ticket, wanted, held=None, capacities=CARD):
    return Claim(ticket=ticket, wanted=wanted, held=held or {}, capacities=capacities)


def test_the_first_in_line_is_not_passed_by_who_would_be_in_its_way():
    runs = Claim(held={0: 4}, capacities=CARD)
    large, small = waiting(1, {0: 8}), waiting(2, {0: 3})
    assert not fits(large, [runs, small])
    assert not fits(small, [runs, large])
    assert fits(small, [runs])


def test_what_is_in_nobodys_way_goes_ahead():
    runs = Claim(held={0: 4}, capacities=CARDS)
    large = waiting(1, {0: 8}, capacities=CARDS)
    assert fits(waiting(2, {1: 6}, capacities=CARDS), [runs, large])


def test_room_on_several_cards_is_had_at_once_or_not_at_all():
    runs = Claim(held={1: 3}, capacities=CARDS)
    both = waiting(1, {0: 5, 1: 4}, capacities=CARDS)
    assert not fits(both, [runs])
    assert both.granted().held == {0: 5, 1: 4}
    assert fits(both, [replace(runs, held={1: 2})])


def test_a_card_that_nobody_sees_is_like_the_smallest_that_is_seen():
    claims = [Claim(capacities={0: 10}), Claim(capacities={1: 6})]
    assert [capacity_of(card, claims) for card in (0, 1, 2)] == [10, 6, 6]
    assert too_small(waiting(1, {2: 7}), [Claim(capacities={1: 6})]) == 2
    assert too_small(waiting(1, {2: 6}), [Claim(capacities={1: 6})]) is None


def test_one_whose_room_is_kept_by_those_behind_it_lets_them_pass():
    """What a fixture holds in a process that waits is free only once its tests are over."""
    first, behind = waiting(1, {0: 8}), waiting(2, {0: 6}, {0: 5})
    assert not fits(first, [behind])
    assert fits(behind, [first])
    assert not is_stuck(first, [behind])
    assert not fits(waiting(3, {0: 6}), [first, Claim(held={0: 5}, capacities=CARD)])


def test_where_all_are_in_each_others_way_the_first_is_told():
    first, second = waiting(1, {0: 8}, {0: 5}), waiting(2, {0: 8}, {0: 5})
    assert is_stuck(first, [second])
    assert not is_stuck(second, [first])
    assert not is_stuck(first, [Claim(held={0: 5}, capacities=CARD)])
    assert is_stuck(first, [second, Claim(held={0: 1}, capacities=CARD)])


class Worker:
    """A model of one: it waits for its next test, runs it, and keeps what stays of it."""

    def __init__(self, tests):
        self.tests = list(tests)
        self.claim = Claim(capacities=CARDS)
        self.is_running = False

    def others(self, workers):
        return [each.claim for each in workers if each is not self and each.tests]

    def step(self, workers, ended):
        others = self.others(workers)
        if self.is_running:
            sizes, share = self.tests.pop(0)
            kept = {card: int(size * share) for card, size in sizes.items()}
            self.claim, self.is_running = Claim(held=kept, capacities=CARDS), False
            ended.append("ran")
            return
        sizes, _ = self.tests[0]
        wanted = {card: max(size, self.claim.held.get(card, 0)) for card, size in sizes.items()}
        wanted = {**self.claim.held, **wanted}
        if not self.claim.is_waiting:
            claim = replace(self.claim, wanted=wanted)
            if too_small(claim, others) is not None:
                self.give_up(ended)
                return
            self.claim = replace(claim, ticket=next_ticket(others))
        if fits(self.claim, others):
            self.claim, self.is_running = self.claim.granted(), True
        elif is_stuck(self.claim, others):
            self.give_up(ended)

    def give_up(self, ended):
        self.tests.pop(0)
        self.claim = self.claim.given_up()
        ended.append("given up")


@settings(max_examples=300)
@given(SUITES, st.data())
def test_never_more_than_a_card_has_and_all_come_to_their_end(suites, data):
    workers = [Worker(tests) for tests in suites]
    count, ended = sum(map(len, suites)), []
    for _ in range(count * 200):
        alive = [worker for worker in workers if worker.tests]
        if not alive:
            break
        data.draw(st.sampled_from(alive)).step(workers, ended) if data.draw(st.booleans()) else [
            worker.step(workers, ended) for worker in alive if worker.tests
        ]
        held = Counter()
        for worker in workers:
            held.update(worker.claim.held if worker.tests else {})
        assert all(held[card] <= CARDS[card] for card in CARDS)
    assert len(ended) == count
    if all(share == 0 for tests in suites for _, share in tests):
        fit = [
            all(n <= CARDS[c] for c, n in sizes.items()) for tests in suites for sizes, _ in tests
        ]
        assert ended.count("ran") == sum(fit)


@given(SUITES, st.integers(0, 4))
def test_nobody_is_passed_by_more_than_ran_when_it_came(suites, late):
    """A test that wants a whole card begins as soon as those end that it found there."""
    runs = [Claim(held=sizes, capacities=CARDS) for tests in suites for sizes, _ in tests[:1]]
    whole = waiting(1, {0: 10}, capacities=CARDS)
    for ticket in range(2, 2 + late):
        other = waiting(ticket, {0: 1}, capacities=CARDS)
        assert not fits(other, [*runs, whole])
    assert fits(whole, [replace(each, held={1: 1}) for each in runs])


@given(SIZES, SIZES, SIZES, st.integers(0, 2**40))
def test_a_record_comes_back(held, wanted, capacities, ticket):
    def known(sizes):
        return {card: size for card, size in sizes.items() if size}

    claim = Claim(held=held, wanted=wanted, ticket=ticket, capacities=capacities)
    record = to_record(claim)
    assert len(record) == RECORD_BYTES
    assert from_record(record) == replace(
        claim, held=known(held), wanted=known(wanted), capacities=known(capacities)
    )


@given(st.integers(0, RECORD_BYTES - 1), st.integers(1, 255))
def test_a_record_that_was_changed_or_torn_is_none(at, change):
    record = to_record(Claim(held={0: 2**40}, wanted={3: 5}, ticket=7))
    changed = bytes(byte ^ change if n == at else byte for n, byte in enumerate(record))
    assert from_record(changed) is None
    assert from_record(record[:at]) is None
    assert from_record(b"\0" * RECORD_BYTES) is None


@pytest.mark.parametrize("sizes", [{MOST_CARDS: 1}, {-1: 1}, {0: 2**63}], ids=str)
def test_what_no_record_can_hold_is_an_error(sizes):
    with pytest.raises(ValueError, match="cards 0 to 63"):
        to_record(Claim(held=sizes))
