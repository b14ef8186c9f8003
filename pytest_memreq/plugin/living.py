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


IMPORTED_SECONDS = time.time()
STARTED_FIELD = 19  # of those after the name: `starttime`, in ticks since the machine was started


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
    """True for what was last written before this process was started, and is held by none."""
    try:
        return path.stat().st_mtime < _started_seconds() and not is_held(path)
    except OSError:  # it is gone
        return False


def _started_seconds() -> float:
    """When this process was started, by the clock of files.

    Not when it came here: a process may stand still for longer than another takes for all its
    tests. Linux tells it, proc_pid_stat(5); elsewhere the time of the import has to do.
    """
    if sys.platform != "linux":
        return IMPORTED_SECONDS
    after_name = (
        Path("/proc/self/stat").read_text(encoding="ascii", errors="replace").rpartition(")")
    )
    ticks = int(after_name[2].split()[STARTED_FIELD])
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - age
