"""The book that workers share: processes that are killed at any moment, and files that are torn."""

import os
import random
import signal
import time

import pytest

from pytest_memreq.errors import MemreqError
from pytest_memreq.packing.ledger import Claim
from pytest_memreq.plugin.book import SLOT_BYTES, Book, stand_for
from pytest_memreq.plugin.queueing import wait_for_room

CARD_BYTES = 10
CAPACITIES = {0: CARD_BYTES}


def forked(work):
    """A process that does some work and nothing else; its number."""
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
        os._exit(0)
    except BaseException:  # noqa: BLE001 - whatever it was, it must not go on as pytest
        os._exit(1)


def killed(pid):
    os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)


def take(book, size, seconds=30, held=0):
    claim = Claim(held={0: held}, wanted={0: size}, capacities=CAPACITIES)
    wait_for_room(book, claim, seconds)


def give_back(book):
    with book.turn() as turn:
        turn.write(Claim(capacities=CAPACITIES))


def line(log, sign, size):
    os.write(log, f"{time.monotonic_ns()} {sign} {size} {os.getpid()}\n".encode())


@pytest.fixture
def log(tmp_path):
    handle = os.open(tmp_path / "log", os.O_APPEND | os.O_CREAT | os.O_RDWR)
    yield handle
    os.close(handle)


def test_processes_that_are_killed_at_random_leave_their_room_and_nobody_has_too_much(
    tmp_path, log
):
    def work():
        chance = random.Random(os.getpid())
        book = Book(tmp_path)
        while True:
            size = chance.randint(1, CARD_BYTES)
            take(book, size)
            line(log, "+", size)
            time.sleep(chance.random() / 500)
            line(log, "-", size)
            give_back(book)

    killed_at = {}
    running = [forked(work) for _ in range(4)]
    until = time.monotonic() + 2
    chance = random.Random(0)
    try:
        while time.monotonic() < until:
            time.sleep(chance.random() / 50)
            pid = running.pop(chance.randrange(len(running)))
            killed_at[pid] = time.monotonic_ns()
            killed(pid)
            running.append(forked(work))
    finally:
        for pid in running:
            killed_at[pid] = time.monotonic_ns()
            killed(pid)
    text = (tmp_path / "log").read_text().splitlines()
    events = [(int(at), sign, int(n), int(pid)) for at, sign, n, pid in map(str.split, text)]
    assert len(events) > 100
    assert len(killed_at) > 10
    assert _most(events, killed_at) <= CARD_BYTES
    take(Book(tmp_path), CARD_BYTES, seconds=0)  # all of it is free again, at once


def _most(events, killed_at):
    held, most = {}, 0
    ends = [(at, "end", 0, pid) for pid, at in killed_at.items()]
    dead = set()
    for _, sign, size, pid in sorted([*events, *ends]):
        if sign == "end":
            dead.add(pid)
            held.pop(pid, None)
        elif pid not in dead:
            held[pid] = size if sign == "+" else 0
        most = max(most, sum(held.values()))
    return most


def test_nobody_reads_while_another_has_its_turn(tmp_path):
    reader, writer = os.pipe()

    def work():
        other = Book(tmp_path)
        with other.turn() as turn:
            os.write(writer, b"x")
            time.sleep(0.2)
            turn.write(Claim(held={0: CARD_BYTES}, capacities=CAPACITIES))
        time.sleep(60)

    book = Book(tmp_path)
    pid = forked(work)
    os.read(reader, 1)
    with pytest.raises(MemreqError, match="no room on the card"):
        take(book, 1, seconds=0)
    killed(pid)


def test_what_a_process_was_writing_when_it_died_is_not_read(tmp_path):
    book = Book(tmp_path)

    def work():
        other = Book(tmp_path)
        take(other, CARD_BYTES)
        os.pwrite(other._file, b"torn", other.slot * SLOT_BYTES + 20)

    os.waitpid(forked(work), 0)
    take(book, CARD_BYTES, seconds=0)


@pytest.mark.parametrize("change", ["garbage", "emptied"])
def test_what_somebody_else_wrote_is_an_error_and_never_room(tmp_path, change):
    reader, writer = os.pipe()

    def work():
        other = Book(tmp_path)
        take(other, 1)
        os.write(writer, b"x")
        time.sleep(60)

    pid = forked(work)
    try:
        os.read(reader, 1)
        book = Book(tmp_path)
        content = b"x" * 40 if change == "garbage" else b"\0" * SLOT_BYTES
        os.pwrite(book._file, content, SLOT_BYTES)
        with pytest.raises(MemreqError, match="somebody else wrote"):
            take(book, 1, seconds=0)
    finally:
        killed(pid)
    take(book, CARD_BYTES, seconds=0)


def test_what_a_worker_started_keeps_its_room_when_it_is_killed(tmp_path):
    reader, writer = os.pipe()
    book = Book(tmp_path)

    def work():
        other = Book(tmp_path)
        take(other, 6)

        def stay():
            stand_for(other.path, other.slot, 3)
            os.write(writer, f"{os.getpid()}\n".encode())
            time.sleep(60)

        forked(stay)
        time.sleep(60)

    pid = forked(work)
    child = int(os.read(reader, 20))
    killed(pid)
    with pytest.raises(MemreqError, match="other workers hold 6 bytes of 10 bytes"):
        take(book, 5, seconds=0)
    os.kill(child, signal.SIGKILL)
    take(book, 5, seconds=5)


def test_a_slot_is_used_again(tmp_path):
    slots = []
    for _ in range(5):
        reader, writer = os.pipe()
        os.waitpid(forked(lambda w=writer: os.write(w, bytes([Book(tmp_path).slot]))), 0)
        slots += os.read(reader, 1)
    assert slots == [1] * 5


def test_whoever_waits_too_long_is_told_what_it_lacked_and_is_out_of_the_way(tmp_path):
    reader, writer = os.pipe()

    def work():
        other = Book(tmp_path)
        take(other, 6)
        os.write(writer, b"x")
        time.sleep(60)

    pid = forked(work)
    os.read(reader, 1)
    book = Book(tmp_path)
    with pytest.raises(MemreqError) as caught:
        take(book, 5, seconds=0)
    _, status = os.waitpid(forked(lambda: take(Book(tmp_path), 4, seconds=5)), 0)
    assert status == 0
    killed(pid)
    assert str(caught.value) == (
        "no room on the card within 0 s (--memreq-cards-timeout): it needs 5 bytes of card 0, "
        "where other workers hold 6 bytes of 10 bytes"
    )


def test_a_directory_that_takes_no_file_is_one_line(tmp_path):
    with pytest.raises(MemreqError, match="No such file"):
        Book(tmp_path / "gone")
