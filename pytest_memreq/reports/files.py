"""Files: written whole or not at all, and read no further than they may be large."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Mapping
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


def write_reports(directory: Path, results: Results, style: Style = PLAIN) -> None:
    """Write every report into `directory`, made if need be.

    Each file is replaced in one step. Raises MemreqError naming the path and what is wrong with
    it; files that were there before are then as they were.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise failure(directory, error) from None
    for name, render in _styled(style).items():
        write_whole(directory / name, render(results))


def write_whole(path: Path, text: str) -> None:
    """Replace a file in one step; a symbolic link at its place is refused, not followed."""
    if path.is_symlink():
        raise MemreqError(LINK.format(path))
    try:
        _replace(path, text.encode("utf-8"))
    except OSError as error:
        raise failure(path, error) from None


def append(path: Path, text: str) -> None:
    """Add to the end of a file that may be there, such as a job's summary."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise failure(path, error) from None


def read_whole(path: Path, most_bytes: int) -> bytes:
    """The content of a regular file, which may come through a symbolic link.

    Raises MemreqError naming the path for anything else, and for more than `most_bytes`.
    """
    try:
        if not path.is_file():  # a pipe would never end
            raise MemreqError(f"{path}: is not {'a file' if path.exists() else 'there'}")
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
    except OSError as error:
        raise MemreqError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(content) > most_bytes:
        raise MemreqError(f"{path}: is larger than {format_size(most_bytes)}")
    return content


def is_there(path: Path) -> bool:
    """True for a file, which may be a symbolic link to one."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # what a system takes for no name is that of no file
        return False


def check_writable(path: Path) -> None:
    """Raise MemreqError naming the path where `write_whole` would; what is there stays."""
    if path.is_symlink():
        raise MemreqError(LINK.format(path))
    try:
        if path.exists() and not path.is_file():
            raise MemreqError(f"{path}: is not a file")
        if path.exists() and not os.access(path, os.W_OK):
            raise MemreqError(f"{path}: cannot be written: it is read-only")
        with tempfile.TemporaryFile(dir=path.parent):  # it is replaced by a new one beside it
            pass
    except OSError as error:
        raise failure(path, error) from None


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
