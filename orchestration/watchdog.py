"""Ends a worker whose epoch hangs: nothing else can interrupt arithmetic that never returns."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import traceback
from collections.abc import Callable
from types import TracebackType

GRACE_SECONDS = 30.0
"""Where even Python's threads stand still, the process is ended at most this much later, without a word."""
EXIT_CODE = 70


class Watchdog:
    """Within the ``with``: without a ``rearm`` for ``seconds``, ``report`` is told the stacks and the process ends."""

    def __init__(self, seconds: float, report: Callable[[str], None]) -> None:
        self._seconds = seconds
        self._report = report
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Watchdog:
        self.rearm()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cancel()

    def rearm(self) -> None:
        """An epoch ended: count from now."""
        self._cancel()
        self._timer = threading.Timer(self._seconds, self._bite)
        self._timer.daemon = True
        self._timer.start()
        faulthandler.dump_traceback_later(self._seconds + min(self._seconds, GRACE_SECONDS), exit=True)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        faulthandler.cancel_dump_traceback_later()

    def _bite(self) -> None:
        try:
            self._report(stacks())
        finally:
            os._exit(EXIT_CODE)


def stacks() -> str:
    """The stack of every thread."""
    found = sys._current_frames()
    return "\n".join(f"thread {name}\n{''.join(traceback.format_stack(frame))}" for name, frame in found.items())
