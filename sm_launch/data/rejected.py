"""Rows that cannot be used: the verdict, and its line in rejected.jsonl."""

from __future__ import annotations

from typing import Any

_SHOWN_CHARACTERS = 60


class Rejected(Exception):  # noqa: N818 - a verdict on a row, not a failure of the program
    """The row cannot be used.

    Args:
        reason: one of few words, counted and shown.
        detail: what exactly, with the value.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def short(value: Any) -> str:
    """A value as a message shows it."""
    shown = repr(value)
    return shown if len(shown) <= _SHOWN_CHARACTERS else shown[:_SHOWN_CHARACTERS] + "…"


def rejection(
    *, location: str, row: int, line: int | None, reason: str, detail: str, raw: Any
) -> dict[str, Any]:
    """One line of rejected.jsonl."""
    return {
        "file": location,
        "row": row,
        "line": line,
        "reason": reason,
        "detail": detail,
        "raw": raw,
    }
