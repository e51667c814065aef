"""Text files as they come: any line end, byte order marks, and bytes of another encoding."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Self, TextIO

from sm_launch.data.chunks import Chunk
from sm_launch.data.sources import Source
from sm_launch.errors import UserInputError

_ESCAPED_BYTES = re.compile("[\udc80-\udcff]+")
_SAMPLE_BYTES = 1 << 16


class TextFile:
    """Opens the text of a source; bytes that are no UTF-8 are read as cp1252 and counted.

    A byte that is not cp1252 either stays a lone surrogate: whoever uses that cell refuses it.

    Args:
        source: the file and its encoding.
        csv: lines end as csv wants them, at every kind of line end; else only at a line feed, or at
            a carriage return in a file that has no line feed at all. Other characters that some
            programs take for line ends (U+2028) never end one.

    Raises:
        UserInputError: there is no such encoding.
    """

    def __init__(self, source: Source, *, csv: bool = False) -> None:
        self.mended = 0
        """Lines (or blocks) with such bytes."""
        newline = "" if csv else _line_end(source)
        try:
            self._file: TextIO = source.path.open(
                encoding=source.encoding, errors="surrogateescape", newline=newline
            )
        except LookupError:
            raise UserInputError(
                "no such encoding",
                field="data.encoding",
                value=source.encoding,
                fix="give a Python codec name such as utf-8 or cp1252, or leave it empty",
            ) from None

    def __enter__(self) -> Self:
        return self

    def told(self, chunk: Chunk, bytes_read: int) -> Chunk:
        """The chunk with how far the file is read, and the lines mended since the last one."""
        chunk.bytes_read = bytes_read
        chunk.mended, self.mended = self.mended, 0
        return chunk

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return self._mend(next(self._file))

    def read(self, size: int) -> str:
        """The next characters, as a file gives them."""
        return self._mend(self._file.read(size))

    def readline(self, size: int) -> str:
        """The next line, or so much of it."""
        return self._mend(self._file.readline(size))

    @property
    def bytes_read(self) -> int:
        """How far it is."""
        return self._file.buffer.tell()

    def _mend(self, text: str) -> str:
        if text.isascii() or not _ESCAPED_BYTES.search(text):
            return text
        self.mended += 1
        return _ESCAPED_BYTES.sub(_as_cp1252, text)


def _as_cp1252(match: re.Match[str]) -> str:
    try:
        return match[0].encode("ascii", "surrogateescape").decode("cp1252")
    except UnicodeDecodeError:
        return match[0]


def _line_end(source: Source) -> str:
    with source.path.open("rb") as file:
        start = file.read(_SAMPLE_BYTES)
    return "\r" if b"\r" in start and b"\n" not in start else "\n"
