"""Files and names that nobody means well with, through the command line: one line, and an end."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_memreq.cli import main
from pytest_memreq.errors import MemreqError
from pytest_memreq.reports.annotations import RUNNERS
from pytest_memreq.reports.files import append, check_writable, write_reports, write_whole
from pytest_memreq.requirement import Peak
from pytest_memreq.results import Results, TestResult, to_json
from tests.reports.runners import commands_of

TEST = TestResult(
    nodeid="test_a.py::test_a", mode="simulated", verdict="within", reason="r",
    peak=Peak(allocated_bytes=77),
)  # fmt: skip
GOOD = to_json(Results(tests=(TEST,))).encode()
NUMBERS = [
    "NaN",
    "Infinity",
    "-Infinity",
    "-0.0",
    "-1",
    str(2**63),
    "1" + "0" * 5000,
    "true",
    "1e308",
]


def link_to(target):
    return lambda path: path.symlink_to(target)


def file_of(content):
    return lambda path: path.write_bytes(content)


CONTENTS = {
    "empty": b"",
    "torn": GOOD[: len(GOOD) // 2],
    "utf-16": GOOD.decode().encode("utf-16"),
    "no utf-8": b"\xff\xfe\xfa",
    "NULs": b"\0" * 1000,
    "deep": b"[" * 200_000,
    "deep objects": b'{"a":' * 200_000,
    "a key twice": b'{"format": 1, "format": 1}',
    "a list": b"[]",
    "of the future": b'{"format": 2}',
    "of no format": b"{}",
    "marks of a conflict": b"<<<<<<< HEAD\n" + GOOD + b"=======\n>>>>>>> x\n",
    "a name that is a command": b'{"format": "\\n::error::x ##vso[task.x y]z"}',
    **{f"{n[:9]} bytes": GOOD.replace(b": 77", b": " + n.encode()) for n in NUMBERS},
    "CRLF, torn": GOOD.replace(b"\n", b"\r\n")[:-9],
}
PLACES = {
    "nothing": lambda _: None,
    "directory": lambda path: path.mkdir(),
    "pipe": os.mkfifo,
    "device": link_to("/dev/zero"),
    "loop": lambda path: path.symlink_to(path),
    "link to nowhere": link_to("nowhere"),
    "too large": lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 2**40),
    **{name: file_of(content) for name, content in CONTENTS.items()},
}
COMMANDS = {
    "outputs": ("outputs", "{}"),
    "diff": ("diff", "{}", "{}"),
    "show": ("baseline", "show", "{}"),
    "prune": ("baseline", "prune", "{}"),
    "update": ("baseline", "update", "{}"),
    "validate": ("validate", "{}"),
    "estimate": ("estimate", "{}"),
}


def run(capsys, *arguments):
    code = main([*arguments])
    out, err = capsys.readouterr()
    assert [commands_of(vendor, out + err) for vendor in RUNNERS] == [[], []]
    return code, out, err


def is_one_line(err):
    assert err.startswith("memreq: ")
    assert err.endswith("\n")
    return err[:-1].isprintable()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("place", PLACES)
def test_whatever_is_read_there_is_an_end_and_a_line(capsys, tmp_path, place, command):
    path = tmp_path / "a.json"
    PLACES[place](path)
    code, out, err = run(capsys, *(word.format(path) for word in COMMANDS[command]))
    assert (code, out) == (4, "")
    assert is_one_line(err)
    assert str(path) in err or command == "estimate"  # which says what is wrong with its content


@pytest.mark.parametrize("place", [place for place in PLACES if place != "nothing"])
@pytest.mark.parametrize("file", ["memreq.json", "journal.jsonl"])
def test_a_report_directory_with_such_a_file_is_left_as_it_is(capsys, tmp_path, place, file):
    PLACES[place](tmp_path / file)
    code, out, err = run(capsys, "render", str(tmp_path))
    if code == 2 and file == "journal.jsonl":
        # The run was killed before it had written a whole line.
        assert b"\n" not in CONTENTS[place]
        return
    assert (code, out) == (4, "")
    assert is_one_line(err)
    assert [path.name for path in tmp_path.iterdir()] == [file]


@pytest.mark.parametrize(
    "name",
    [
        "x" * 300,
        "\x1b[31mred",
        "a\n::error::x",
        "##vso[task.setvariable variable=x]y",
        "\ud800",
        "%00",
    ],
    ids=ascii,
)
@pytest.mark.parametrize(
    "command", [*COMMANDS.values(), ("render", "{}"), ("adopt", "{}"), ("{}",)]
)
def test_a_name_is_text(capsys, name, command):
    code, _, err = run(capsys, *(word.format(name) for word in command))
    assert code == 4
    assert is_one_line(err)


@pytest.mark.parametrize(
    "size", ["1e9", "-1MiB", "1,5 GiB", "\u0661 GiB", "NaN", "", "9" * 5000, "\x1b", "-1"]
)
def test_a_size_is_a_size(capsys, size):
    code, _, err = run(capsys, "estimate", "1B", f"--budget={size}")
    assert code == 4
    assert is_one_line(err)


def test_json_for_programs_is_no_command_in_a_log(capsys, tmp_path):
    name = "##vso[task.setvariable variable=x]y##[error]z[[ATTACHMENT|/etc/passwd]]"
    files = [tmp_path / side for side in ("a.json", "b.json")]
    for file, size in zip(files, (7, 9), strict=True):
        test = TestResult(
            nodeid=name,
            mode="simulated",
            verdict="within",
            reason="",
            peak=Peak(allocated_bytes=size),
        )
        file.write_text(to_json(Results(tests=(test,))))
    _, out, _ = run(capsys, "diff", *map(str, files), "--format=json")
    assert json.loads(out)["tests"][0]["nodeid"] == name
    assert "[[ATTACHMENT|" not in out


def test_output_in_another_encoding_has_escapes(tmp_path):
    test = TestResult(nodeid="test_é👩", mode="simulated", verdict="within", reason="")
    write_reports(tmp_path, Results(tests=(test,)))
    done = subprocess.run(
        [sys.executable, "-m", "pytest_memreq", "render", str(tmp_path)],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"test_\xe9\U0001f469" in done.stdout


def precious(path):
    (path.parent / "target").write_text("precious")
    path.symlink_to(path.parent / "target")


TAKEN = {
    "a link": (precious, "is a symbolic link"),
    "a link to nowhere": (link_to("elsewhere"), "is a symbolic link"),
    "a device": (link_to("/dev/full"), "is a symbolic link"),
    "a pipe": (os.mkfifo, "is not a file"),
    "a directory": (lambda path: path.mkdir(), "is not a file"),
}
WAYS = {
    "write_whole": lambda path: write_whole(path, "x"),
    "append": lambda path: append(path, "x"),
    "check_writable": check_writable,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", TAKEN)
def test_what_is_no_file_is_not_written_and_stays(tmp_path, place, way):
    path = tmp_path / "a"
    make, said = TAKEN[place]
    make(path)
    before = os.lstat(path)
    with pytest.raises(MemreqError, match=said):
        WAYS[way](path)
    after = os.lstat(path)
    assert (after.st_ino, stat.S_IFMT(after.st_mode)) == (
        before.st_ino,
        stat.S_IFMT(before.st_mode),
    )
    assert not (tmp_path / "elsewhere").exists()
    assert not (tmp_path / "target").exists() or (tmp_path / "target").read_text() == "precious"


def test_a_device_is_not_replaced_by_a_file():
    with pytest.raises(MemreqError, match="/dev/null: cannot be written: it is not a file"):
        write_whole(Path("/dev/null"), "x")  # as root, it would be
    assert Path("/dev/null").is_char_device()


def test_a_report_directory_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "report").symlink_to("real")
    with pytest.raises(MemreqError, match="report: is a symbolic link"):
        write_reports(tmp_path / "report", Results())
    assert not [*(tmp_path / "real").iterdir()]


def test_a_summary_that_is_a_link_is_refused(capsys, tmp_path):
    write_reports(tmp_path, Results(tests=(TEST,)))
    precious(tmp_path / "summary")
    code, _, err = run(capsys, "render", str(tmp_path), "--summary", str(tmp_path / "summary"))
    assert code == 4
    assert "summary: is a symbolic link" in err
    assert (tmp_path / "target").read_text() == "precious"
