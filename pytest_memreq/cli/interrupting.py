"""Ctrl-C as the end of long work, that leaves what was found out until then."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interruption:
    """Whether there was one; work calls `check` now and then.

    Python drops what is raised in a finalizer or in a callback of a weak reference, and the work
    would go on: at `check` it ends at the latest.
    """

    def __init__(self) -> None:
        self.was_heard = False

    def check(self) -> None:
        """Raise KeyboardInterrupt where there was one."""
        if self.was_heard:
            raise KeyboardInterrupt

    def hear(self, _number: int, _frame: FrameType | None) -> None:
        """Take the signal."""
        self.was_heard = True
        raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Within it Ctrl-C ends the block, and is raised no further, whatever others made of it."""
    interruption = Interruption()
    # Only the main thread may listen to signals; in another, nothing is interrupted.
    listens = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, interruption.hear) if listens else None
    try:
        yield interruption
    except KeyboardInterrupt:
        interruption.was_heard = True
    except Exception:  # after Ctrl-C alone: an import that is broken off may raise anything
        if not interruption.was_heard:
            raise
    finally:
        if listens:
            signal.signal(signal.SIGINT, before)
