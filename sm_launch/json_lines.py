"""JSON Lines: one JSON value a line. A line ends at a newline and nowhere else.

`str.splitlines` also ends lines at form feeds, U+0085, U+2028 and others, which JSON allows inside
of its strings: what was written as one line must be read as one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sm_launch.errors import UserInputError

_BLANK = " \t\r\n"
"""White space by JSON's definition; Python's own counts much more."""


class Line(NamedTuple):
    """A line with something on it: its number from 1, its text, and whether a newline ended it."""

    number: int
    text: str
    ended: bool


def lines(path: Path) -> Iterator[Line]:
    """The lines of a file that are not blank, without a byte order mark.

    Raises:
        UserInputError: a line is not UTF-8.
    """
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise UserInputError(
                    f"not UTF-8: {error.reason} at byte {error.start}",
                    field=f"{path} line {number}",
                    fix="write the file as UTF-8",
                ) from error
            if text.strip(_BLANK):
                yield Line(number, text.strip(_BLANK), raw.endswith(b"\n"))


def split(text: str) -> list[str]:
    """The lines of a text that are not blank."""
    return [line.strip(_BLANK) for line in text.split("\n") if line.strip(_BLANK)]


def read(path: Path) -> list[Any]:
    """The values of a file that this package wrote to its end.

    Raises:
        UserInputError: a line is not JSON, or the last one is not ended by a newline.
    """
    values = []
    for line in lines(path):
        try:
            values.append(json.loads(line.text))
        except ValueError as error:
            raise _cut(path, line, f"not JSON: {error}") from error
        if not line.ended:
            raise _cut(path, line, "the file ends short: no newline ends this line")
    return values


def read_until_cut(path: Path) -> list[Any]:
    """The values of a file that may have been cut off while it was written, up to that place."""
    values = []
    try:
        for line in lines(path):
            if not line.ended:
                break
            values.append(json.loads(line.text))
    except (ValueError, UserInputError):
        pass
    return values


def dumps(value: Any) -> str:
    """The value as one line, with its newline."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair is written as JSON's \\uXXXX
        text = json.dumps(value)
    return text + "\n"


def _cut(path: Path, line: Line, problem: str) -> UserInputError:
    return UserInputError(
        problem,
        field=f"{path} line {line.number}",
        value=line.text[:80],
        fix="the file is damaged or was cut off: write or copy it again",
    )
