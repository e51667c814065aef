"""SIGTERM to an orderly end: at once where nothing can be lost, else after the current step."""

from __future__ import annotations

import signal
import types

from sm_train.errors import StoppedBySignalError


class StopRequest:
    """Remembers that the platform asked the job to stop (SIGTERM, then SIGKILL after 120 s)."""

    def __init__(self) -> None:
        self.requested = False
        self.deferred = False

    def install(self) -> None:
        """Handle SIGTERM from now on; the main thread only."""
        signal.signal(signal.SIGTERM, self._handle)

    def defer(self) -> None:
        """From now on a signal is only remembered: the training loop looks at it after a step."""
        self.deferred = True

    def check(self, where: str) -> None:
        """Raise StoppedBySignalError when a signal has come."""
        if self.requested:
            raise StoppedBySignalError(f"stopped by SIGTERM {where}")

    def _handle(self, _number: int, _frame: types.FrameType | None) -> None:
        self.requested = True
        if not self.deferred:
            raise StoppedBySignalError("stopped by SIGTERM before there was anything to save")
