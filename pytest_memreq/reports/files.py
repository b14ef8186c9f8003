"""Files: written whole or not at all, and read no further than they may be large."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from pytest_memreq.errors import MemreqError
from pytest_memreq.reports import jsonfile, junit, markdown, openmetrics
from pytest_memreq.results import Results
from pytest_memreq.units import format_size

REPORTS: dict[str, Callable[[Results], str]] = {
    "memreq.json": jsonfile.render,
    "memreq.xml": junit.render,
    "memreq.md": markdown.render,
    "metrics.txt": openmetrics.render,
}


# From a file's path to what is around the making of it.
Around = Callable[[Path], AbstractContextManager[None]]


def write_reports(
    directory: Path, results: Results, around: Around = lambda _: contextlib.nullcontext()
) -> None:
    """Write every report into `directory`, made if need be.

    Each file is replaced in one step. Raises MemreqError naming the path and what is wrong with
    it; files that were there before are then as they were.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _failure(directory, error) from None
    for name, render in REPORTS.items():
        with around(directory / name):
            write_whole(directory / name, render(results))


def write_whole(path: Path, text: str) -> None:
    """Replace a file in one step; a symbolic link at its place is refused, not followed."""
    if path.is_symlink():
        raise MemreqError(
            f"{path}: is a symbolic link; remove it, files are not written through one"
        )
    try:
        _replace(path, text.encode("utf-8"))
    except OSError as error:
        raise _failure(path, error) from None


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


def _failure(path: Path, error: OSError) -> MemreqError:
    return MemreqError(f"{path}: cannot be written: {error.strerror or error}")
