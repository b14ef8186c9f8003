"""Reports are written whole or not at all."""

import json
import os
import stat

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
