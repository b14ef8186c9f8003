"""Files: written whole or not at all, and read no further than they may be large."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from pytest_memreq.errors import MemreqError
from pytest_memreq.reports import html, jsonfile, junit, markdown, openmetrics
from pytest_memreq.reports.style import PLAIN, Style
from pytest_memreq.results import Results
from pytest_memreq.units import format_size

REPORTS: dict[str, Callable[[Results], str]] = {
    "memreq.json": jsonfile.render,
    "memreq.xml": junit.render,
    "memreq.md": markdown.render,
    "metrics.txt": openmetrics.render,
    "index.html": html.render,
}
LINK = "{}: is a symbolic link; remove it, files are not written through one"
NO_FILE = "{}: cannot be written: it is not a file"
# Neither through a link that was put there since it was looked at, nor waiting at a pipe's end.
CAREFULLY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


# From a file's path to what is around the making of it.
Around = Callable[[Path], AbstractContextManager[None]]


def write_reports(
    directory: Path,
    results: Results,
    style: Style = PLAIN,
    around: Around = lambda _: contextlib.nullcontext(),
) -> None:
    """Write every report into `directory`, made if need be.

    Each file is replaced in one step. Raises MemreqError naming the path and what is wrong with
    it, a directory that is a symbolic link too; files that were there before are then as they were.
    """
    try:
        if stat.S_ISLNK(_mode(directory) or 0):
            raise MemreqError(LINK.format(directory))
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise failure(directory, error) from None
    for name, render in _styled(style).items():
        with around(directory / name):
            write_whole(directory / name, render(results))


def write_whole(path: Path, text: str) -> None:
    """Replace a file in one step; a link, a pipe or a device at its place is refused and stays."""
    try:
        _check_place(path)
        _replace(path, text.encode("utf-8"))
    except OSError as error:
        raise failure(path, error) from None


def append(path: Path, text: str) -> None:
    """Add to the end of a file that may be there, such as a job's summary.

    Raises MemreqError naming the path; what `write_whole` refuses is refused here too.
    """
    try:
        _check_place(path)
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | CAREFULLY, 0o666)
        with open(handle, "a", encoding="utf-8") as file:  # noqa: PTH123 - it is open already
            file.write(text)
    except OSError as error:
        raise failure(path, error) from None


def read_whole(path: Path, most_bytes: int) -> bytes:
    """The content of a regular file, which may come through a symbolic link.

    Raises MemreqError naming the path for anything else, and for more than `most_bytes`.
    """
    try:
        mode = _mode(path, follows=True)
        if mode is None or not stat.S_ISREG(mode):  # a pipe would never end
            raise MemreqError(f"{path}: is not {'there' if mode is None else 'a file'}")
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
    except OSError as error:
        raise MemreqError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(content) > most_bytes:
        raise MemreqError(f"{path}: is larger than {format_size(most_bytes)}")
    return content


def is_there(path: Path) -> bool:
    """True for a file, which may be a symbolic link to one."""
    return _is(stat.S_ISREG, path)


def is_directory(path: Path) -> bool:
    """True for a directory, which may be a symbolic link to one."""
    return _is(stat.S_ISDIR, path)


def is_absent(path: Path) -> bool:
    """True where there is nothing; a link to nowhere, or what cannot be looked at, is something."""
    try:
        return _mode(path) is None
    except OSError:
        return False


def check_writable(path: Path) -> None:
    """Raise MemreqError naming the path where `write_whole` would; what is there stays."""
    try:
        _check_place(path)
        if not is_absent(path) and not os.access(path, os.W_OK):
            raise MemreqError(f"{path}: cannot be written: it is read-only")
        with tempfile.TemporaryFile(dir=path.parent):  # it is replaced by a new one beside it
            pass
    except OSError as error:
        raise failure(path, error) from None


def _check_place(path: Path) -> None:
    """Raise MemreqError where something else than a file is: a device would be lost for good."""
    mode = _mode(path)
    if mode is not None and not stat.S_ISREG(mode):
        raise MemreqError((LINK if stat.S_ISLNK(mode) else NO_FILE).format(path))


def _is(kind: Callable[[int], bool], path: Path) -> bool:
    try:
        return kind(_mode(path, follows=True) or 0)
    except OSError:  # what a system takes for no name is that of nothing
        return False


def _mode(path: Path, *, follows: bool = False) -> int | None:
    """What is there, as `stat` has it, None for nothing; raises OSError for all else."""
    try:
        return path.stat(follow_symlinks=follows).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:  # it has a NUL, or characters that no name has
        raise OSError(errno.EINVAL, "it is no name of a file") from None


def _styled(style: Style) -> Mapping[str, Callable[[Results], str]]:
    return {**REPORTS, "memreq.xml": partial(junit.render, family=style.junit_family)}


def _replace(path: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o666 & ~_umask())  # mkstemp makes it readable by its owner alone
        Path(name).replace(path)
    except BaseException:  # an interrupt leaves nothing behind either
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def failure(path: Path, error: OSError) -> MemreqError:
    """What to raise for a path that the system does not write."""
    return MemreqError(f"{path}: cannot be written: {error.strerror or error}")
