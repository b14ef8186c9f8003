"""`memreq adopt`: markers instead of hand-rolled assertions on torch's counters."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_memreq.cli.adopting.reading import Found, Reading, read_tests
from pytest_memreq.cli.adopting.writing import CannotWriteError, with_markers
from pytest_memreq.errors import MemreqError
from pytest_memreq.reports.files import is_directory, is_there
from pytest_memreq.reports.text import visible

ALL_DONE, TO_ADD, TO_LOOK_AT = 0, 1, 2
MOST_BYTES = 8 * 2**20
SHOWN_CHARACTERS = 120
NOT_OURS = ("__pycache__", "node_modules", "site-packages", "build", "dist")
EPILOG = """\
Nothing is changed without --write; with it, markers and a missing import of pytest are put in and
every other byte stays. The old assertions are left for you to remove.

exit code: 0 nothing is left to do, 1 markers can be added (or were not, without --write),
2 something cannot be turned into a marker or a file cannot be read, 4 usage
"""


def add_to(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its options."""
    parser.description = (
        "Find assertions on torch.cuda.max_memory_allocated and its like in tests, and say which "
        "marker means the same."
    )
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("paths", metavar="PATH", nargs="+", help="a file, or a folder to look in")
    parser.add_argument("--write", action="store_true", help="put the markers into the files")
    parser.set_defaults(run=_run)


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """What became of one file; `problem` says why it was not read or not written."""

    path: Path
    reading: Reading
    problem: str = ""
    is_written: bool = False


def _run(arguments: argparse.Namespace) -> int:
    paths = _files([Path(path) for path in arguments.paths])
    files = [_adopt(path, write=arguments.write) for path in paths]
    for file in files:
        print("\n".join(_lines(file)), end="\n" if _lines(file) else "")
    print(_summary(files))
    return _exit_code(files)


def _files(paths: Iterable[Path]) -> list[Path]:
    found: dict[Path, None] = {}
    for path in paths:
        if is_directory(path):
            found.update(dict.fromkeys(sorted(_within(path))))
        elif is_there(path):
            found[path] = None
        else:
            raise MemreqError(f"{path}: is no file and no folder; give test files or their folder")
    return list(found)


def _within(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [n for n in folders if not n.startswith(".") and n not in NOT_OURS]
        if "pyvenv.cfg" in names:
            folders.clear()
            continue
        paths = (Path(parent, name) for name in names if name.endswith(".py"))
        yield from (path for path in paths if path.is_file() and not path.is_symlink())


def _adopt(path: Path, *, write: bool) -> _File:
    try:
        source = _read(path)
        reading = read_tests(source)
    except (OSError, MemreqError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return _File(path=path, reading=Reading(), problem=_why_not_read(error))
    if not reading.markings:
        return _File(path=path, reading=reading)
    try:
        written = with_markers(source, reading.markings)
        if write:
            _replace(path, written)
    except CannotWriteError as error:
        return _File(path=path, reading=reading, problem=f"takes no markers: {error}")
    except OSError as error:
        return _File(path=path, reading=reading, problem=f"cannot be written: {error.strerror}")
    return _File(path=path, reading=reading, is_written=write)


def _why_not_read(error: BaseException) -> str:
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror}"
    if isinstance(error, (RecursionError, MemoryError)):  # ast raises either for such
        return "is nested too deep to be read"
    return (
        str(error)
        if isinstance(error, MemreqError)
        else f"is not Python: {str(error).replace('<unknown>, ', '')}"
    )


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        source = file.read(MOST_BYTES + 1)
    if len(source) > MOST_BYTES:
        raise MemreqError("is larger than 8 MiB")
    return source


def _replace(path: Path, content: bytes) -> None:
    """In one step, and with the rights that the file has; through a link, where it points to."""
    target = path.resolve()
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        shutil.copymode(target, name)
        Path(name).replace(target)
    except OSError:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def _lines(file: _File) -> list[str]:
    problem = [f"{visible(str(file.path))}: {visible(file.problem)}"] if file.problem else []
    return [*problem, *(line for found in file.reading.found for line in _told(file.path, found))]


def _told(path: Path, found: Found) -> Iterator[str]:
    where = f"{visible(str(path))}:{found.line}"
    test = f" {visible(found.test)}:" if found.test else ""
    yield f"{where}:{test} {visible(found.said, SHOWN_CHARACTERS)}"
    if found.marker:
        yield f"    @pytest.{found.marker}"
        return
    yield f"    no marker: {visible(found.reason, SHOWN_CHARACTERS)}"
    if found.instead:
        yield f"    instead: {found.instead}"


def _summary(files: Sequence[_File]) -> str:
    new = [file for file in files if file.reading.markings and not file.problem]
    markers = sum(len(file.reading.markings) for file in new)
    is_written = any(file.is_written for file in new)
    done = "added to" if is_written else "to add to"
    hint = "; --write adds them" if markers and not is_written else ""
    rest = len(_to_look_at(files))
    return (
        f"{_count(markers, 'marker')} {done} {_count(len(new), 'file')}, {rest} to look at by hand"
        f"{hint}"
    )


def _exit_code(files: Sequence[_File]) -> int:
    if any(file.reading.markings and not file.is_written and not file.problem for file in files):
        return TO_ADD
    return TO_LOOK_AT if _to_look_at(files) else ALL_DONE


def _to_look_at(files: Iterable[_File]) -> list[object]:
    """What no marker came of, and files that were not read or not written."""
    looked: list[object] = []
    for file in files:
        looked += [file] if file.problem else []
        looked += [found for found in file.reading.found if not found.marker and not found.is_done]
    return looked


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
