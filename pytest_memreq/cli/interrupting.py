"""Ctrl-C as the end of long work, that leaves what was found out until then."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interruptible:
    """Within it Ctrl-C ends the block and is not raised further.

    Python drops what is raised in a finalizer or a callback of a weak reference; so work that calls
    `check` now and then ends at that call at the latest.
    """

    def __init__(self) -> None:
        self.was_interrupted = False
        self._before: Any = None

    def __enter__(self) -> Interruptible:
        # Only the main thread hears signals; in another, nothing can be interrupted.
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._heard)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> bool:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
        if kind is KeyboardInterrupt:
            self.was_interrupted = True
        return kind is KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt where there was one."""
        if self.was_interrupted:
            raise KeyboardInterrupt

    def _heard(self, _number: int, _frame: FrameType | None) -> None:
        self.was_interrupted = True
        raise KeyboardInterrupt
