"""SIGTERM to an orderly end: at once where nothing can be lost, else after the current step."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from sm_train.contract import EXIT_STOPPED
from sm_train.errors import StoppedBySignalError

# SIGKILL comes 120 s after SIGTERM. Before it we say why, and end with the right code.
_GRACE_SECONDS = 115.0
_AT_ONCE = "stopped by SIGTERM before there was anything to save"
_TOO_LONG = (
    f"stopped by SIGTERM, and the current step did not end within {_GRACE_SECONDS:.0f} s; "
    "the last complete checkpoint is intact"
)


class StopRequest:
    """Remembers that the platform asked the job to stop (SIGTERM, then SIGKILL after 120 s)."""

    def __init__(self) -> None:
        self.requested = False
        self.deferred = False
        self.farewell: Callable[[], None] = lambda: None
        """Done before this process ends at once."""

    def install(self) -> None:
        """Handle SIGTERM from now on; the main thread only.

        Python runs handlers between bytecodes of the main thread, which may sit in a library's C
        code for minutes, or in an `except Exception`. So a thread of its own hears the signal.
        """
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.signal(signal.SIGTERM, self._handle)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        # Pools end their forked workers by SIGTERM: those must die, and not write into our pipe.
        os.register_at_fork(after_in_child=_forget)
        threading.Thread(target=self._listen, args=(reader,), daemon=True, name="sigterm").start()

    def defer(self) -> None:
        """From now on a signal is only remembered: the training loop looks at it after a step."""
        self.deferred = True

    def ignore(self) -> None:
        """The work is done and the artefact whole: a signal can only spoil the exit code."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def check(self, where: str) -> None:
        """Raise StoppedBySignalError when a signal has come."""
        if self.requested:
            raise StoppedBySignalError(f"stopped by SIGTERM {where}")

    def _handle(self, _number: int, _frame: types.FrameType | None) -> None:
        self.requested = True

    def _listen(self, reader: int) -> None:
        while os.read(reader, 1)[0] != signal.SIGTERM:
            pass
        self.requested = True
        if not self.deferred:
            self.farewell()
            leave(EXIT_STOPPED, f"stopped: {_AT_ONCE}")
        time.sleep(_GRACE_SECONDS)
        self.farewell()
        leave(EXIT_STOPPED, f"stopped: {_TOO_LONG}")


def _forget() -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def leave(code: int, reason: str = "") -> NoReturn:
    """End this process and those it started, now; the reason goes to stderr.

    The toolkit would replace the failure file by a traceback and the code by 1: it gets no say.
    """
    if reason:
        os.write(2, f"{reason}\n".encode())
    for child in children(os.getpid()):
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            continue
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def children(parent: int) -> list[int]:
    """Processes that any thread of `parent` started."""
    pids: list[int] = []
    for path in Path(f"/proc/{parent}/task").glob("*/children"):
        try:
            pids += [int(child) for child in path.read_text().split()]
        except OSError:  # the thread has ended meanwhile
            continue
    return pids
