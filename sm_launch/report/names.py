"""Names that must fit beside a chart: cut where they are too long, and still told apart."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from os.path import commonprefix

_MORE = "…"


def width(text: str) -> int:
    """Columns that a text takes, as a terminal counts them: an ideograph takes two."""
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) == "Cf":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def fitting(names: Sequence[str], columns: int) -> list[str]:
    """Each name in so many columns; of those that would look alike, what they begin with is cut."""
    alike: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        alike.setdefault(cut(name, columns), []).append(name)
    return [_told_apart(name, alike[cut(name, columns)], columns) for name in names]


def _told_apart(name: str, alike: Sequence[str], columns: int) -> str:
    if len(alike) == 1:
        return cut(name, columns)
    shared = commonprefix(alike)  # noqa: RUF071 - of names, not of paths
    while shared and shared[-1].isalnum():  # back to where a word begins
        shared = shared[:-1]
    return cut(_MORE + name[len(shared) :], columns) if shared else cut(name, columns)


def cut(text: str, columns: int) -> str:
    """The beginning of a text, with … where it ends early."""
    if width(text) <= columns:
        return text
    kept, room = "", columns - 1
    for character in text:
        room -= _columns(character)
        if room < 0:
            break
        kept += character
    return (kept or text[:1]) + _MORE
