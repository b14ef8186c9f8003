"""Reports are written whole or not at all."""

import json
import os
import stat
import subprocess
import sys
import time

import pytest

from pytest_memreq import MemreqError
from pytest_memreq.reports.files import REPORTS, write_reports, write_whole
from pytest_memreq.results import Results


def test_every_report_is_written_and_nothing_else(tmp_path):
    write_reports(tmp_path / "new" / "report", Results())
    assert sorted(path.name for path in (tmp_path / "new" / "report").iterdir()) == sorted(REPORTS)
    assert json.loads((tmp_path / "new" / "report" / "memreq.json").read_text())["tests"] == []


def test_a_report_is_readable_by_those_who_may_read_new_files(tmp_path):
    before = os.umask(0o022)
    try:
        write_reports(tmp_path, Results())
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "memreq.json").stat().st_mode) == 0o644


def test_a_symbolic_link_is_refused_and_its_target_kept(tmp_path):
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / "memreq.json").symlink_to(target)
    with pytest.raises(MemreqError, match=r"memreq\.json: is a symbolic link"):
        write_reports(tmp_path, Results())
    assert target.read_text() == "precious"


def test_a_directory_in_the_files_place_is_one_line(tmp_path):
    (tmp_path / "memreq.json").mkdir()
    with pytest.raises(MemreqError, match=r"memreq\.json: cannot be written: "):
        write_reports(tmp_path, Results())
    assert [path.name for path in tmp_path.iterdir()] == ["memreq.json"]


def test_a_file_in_the_directorys_place_is_one_line(tmp_path):
    (tmp_path / "report").write_text("")
    with pytest.raises(MemreqError, match="report: cannot be written: "):
        write_reports(tmp_path / "report", Results())


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path):
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    write_whole(tmp_path / "a", "old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
        with pytest.raises(MemreqError, match="a: cannot be written: "):
            write_whole(tmp_path / "a", "new" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old"}


def test_an_interrupt_leaves_the_old_file_and_no_other(tmp_path):
    """The signal comes while the content is written, for that takes nearly all of the time."""
    signal = pytest.importorskip("signal")
    if not hasattr(signal, "setitimer"):
        pytest.skip("has no timers")

    def interrupt(*_):
        raise KeyboardInterrupt

    handler = signal.signal(signal.SIGALRM, interrupt)
    content = "old" * 2**23

    def write_for_ever():
        while True:
            write_whole(tmp_path / "a", content)

    write_whole(tmp_path / "a", content)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            write_for_ever()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == content


WRITER = """
import sys
from pathlib import Path
from pytest_memreq.reports.files import write_whole

path, turn = Path(sys.argv[1]), 0
while True:
    write_whole(path, f"{turn % 10}" * 300_000)
    turn += 1
    if turn == 2:
        print("writing", flush=True)
"""


@pytest.mark.parametrize("wait_seconds", [0.001, 0.01, 0.02, 0.05])
def test_a_process_that_is_killed_leaves_a_whole_file(tmp_path, wait_seconds):
    path = tmp_path / "a"
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        writer.stdout.readline()
        time.sleep(wait_seconds)
        writer.kill()
    content = path.read_text()
    assert content == content[:1] * 300_000
