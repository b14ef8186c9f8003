"""Whether the process that writes a file lives: it holds a lock on it, which ends as it does.

A lock of POSIX, which a fork does not inherit, and which the kernel takes away however a process
ends. It is lost once its process closes the file anywhere: nobody else there may open it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

if sys.platform != "win32":
    import fcntl


BEGUN_SECONDS = time.time()  # of this process: plugins are imported first


def hold(handle: int) -> None:
    """Lock the file as long as this process lives; where no file can be locked, nothing is."""
    if sys.platform != "win32":
        with contextlib.suppress(OSError):
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_held(path: Path) -> bool:
    """False where the process that held the file has ended; True too where nobody can tell."""
    if sys.platform == "win32":
        return True
    try:
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return True
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def is_stale(path: Path) -> bool:
    """True for what was last written before this process began, and is held by none."""
    try:
        return path.stat().st_mtime < BEGUN_SECONDS and not is_held(path)
    except OSError:  # it is gone
        return False
