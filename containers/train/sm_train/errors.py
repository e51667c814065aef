"""Failures a user can act on, and the way a job is told to stop."""

from __future__ import annotations

from typing import Any

from sm_train.redaction import redact

_SHOWN_VALUE = 120


class UserError(Exception):
    """A wrong input: names the field, the value and the fix; no traceback is shown for it."""

    def __init__(
        self, message: str, *, field: str | None = None, value: Any = None, fix: str | None = None
    ) -> None:
        self.message = message
        self.field = field
        self.value = value
        self.fix = fix
        super().__init__(self.render())

    def render(self) -> str:
        """One line: `field = value: message. Fix: …`."""
        head = ""
        if self.field is not None:
            shown = "" if self.value is None else f" = {shorten(repr(self.value))}"
            head = f"{self.field}{shown}: "
        tail = f" Fix: {self.fix}" if self.fix else ""
        message = self.message if self.message.endswith((".", "?", "!")) else self.message + "."
        text = redact(head + message + tail)
        # Half a character (a lone surrogate) can be in a message but in no file.
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


class StoppedBySignalError(Exception):
    """SIGTERM arrived where nothing needs to be saved, or after it was saved."""


class WorkerFailedError(Exception):
    """A worker process of a distributed job failed; the message is its first cause."""


def shorten(text: str, limit: int = _SHOWN_VALUE) -> str:
    """`text` on one line and at most `limit` characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"
