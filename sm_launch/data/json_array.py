"""A JSON array of any size, or objects one after another, with only a block of it in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Protocol

BLOCK_CHARACTERS = 1 << 20
# A number or a word such as `true` that a block cuts in two looks wrong within this distance.
_LONGEST_CUT = 32
_SPACE = " \t\r\n"


class Readable(Protocol):
    """The part of a text file that is needed."""

    def read(self, size: int, /) -> str: ...


def elements(file: Readable, decoder: json.JSONDecoder | None = None) -> Iterator[Any]:
    """The elements of the array that a file holds, or the objects that follow one another in it.

    Args:
        file: open for reading text; a byte order mark at its start is passed over.
        decoder: of each element.

    Raises:
        ValueError: it is neither; the message names the line.
    """
    return _Reader(file, decoder or json.JSONDecoder()).read()


class _Reader:
    """The file's text from the first element that is not yet read, as far as it is in memory."""

    def __init__(self, file: Readable, decoder: json.JSONDecoder) -> None:
        self._file = file
        self._text = ""
        self._at = 0
        self._ended = False
        self._lines_gone = 0
        self._decode = decoder.raw_decode

    def read(self) -> Iterator[Any]:
        self._more()
        self._at = 1 if self._text.startswith("\ufeff") else 0
        if self._next() == "{":
            while self._next():
                yield self._element()
            return
        if self._next() != "[":
            raise self._wrong("it does not begin with [")
        self._at += 1
        mark = "]" if self._next() == "]" else ","
        while mark == ",":
            self._next()  # raw_decode takes no white space before a value
            yield self._element()
            mark = self._next()
            if mark == ",":
                self._at += 1
        if mark != "]":
            raise self._wrong("expecting ',' or ']'" if mark else "it ends inside the array")
        self._at += 1
        if self._next():
            raise self._wrong("there is more behind the array")

    def _element(self) -> Any:
        size = BLOCK_CHARACTERS
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._ended or not self._may_be_cut(error):
                    self._at = min(error.pos, len(self._text))
                    raise self._wrong(error.msg) from error
            except ValueError as error:
                raise self._wrong(str(error)) from error
            else:
                # A number may go on in the next block.
                if end < len(self._text) or self._ended:
                    self._at = end
                    return value
            # Twice as much each time, so that a long element is not read again and again.
            self._more(size)
            size *= 2

    def _may_be_cut(self, error: json.JSONDecodeError) -> bool:
        near_the_end = error.pos >= len(self._text) - _LONGEST_CUT
        return near_the_end or error.msg.startswith("Unterminated string")

    def _next(self) -> str:
        """The next character that is no white space, without passing it; empty at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _SPACE:
                    return self._text[self._at]
                self._at += 1
            if self._ended:
                return ""
            self._more()

    def _more(self, size: int = BLOCK_CHARACTERS) -> None:
        block = self._file.read(size)
        self._ended = len(block) < size
        self._lines_gone += self._text.count("\n", 0, self._at)
        self._text = self._text[self._at :] + block
        self._at = 0

    def _wrong(self, problem: str) -> ValueError:
        line = self._lines_gone + self._text.count("\n", 0, self._at) + 1
        return ValueError(f"{problem} (line {line})")
