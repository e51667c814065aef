"""CSV and TSV records, with the damage of one broken quote confined to its own line.

A missing closing quote makes every CSV parser swallow the following lines up to the next quote.
Here a record that comes out wrong is given back line by line: only its first line is bad.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import NamedTuple

_EXCEL_TEXT = re.compile(r'="([^"]*)"\Z')
"""How Excel is told that 001 is a text."""


class Record(NamedTuple):
    """One row, or why it is none."""

    line: int
    cells: list[str] | None
    problem: str = ""
    raw: str = ""


class _Lines:
    """Physical lines with a memory of those since the last record, and a way to give them back."""

    def __init__(self, file: Iterator[str], before: int) -> None:
        self._file = file
        self._returned: list[str] = []
        self.taken: list[str] = []
        self.number = before

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._returned.pop() if self._returned else next(self._file)
        self.number += 1
        self.taken.append(line)
        return line

    def give_back_all_but_first(self) -> str:
        first, *rest = self.taken
        self._returned.extend(reversed(rest))
        self.number -= len(rest)
        self.taken = []
        return first


class TabularReader:
    """Iterates over records; blank lines, and rows of empty cells only, are none.

    Args:
        file: opened with `newline=""`.
        delimiter: one character.
        quoted: whether a double quote encloses a cell.
        before: lines of the file that were read before.
    """

    def __init__(
        self, file: Iterator[str], delimiter: str, *, quoted: bool, before: int = 0
    ) -> None:
        self._lines = _Lines(file, before)
        self._delimiter = delimiter
        self._quoted = quoted
        self.width: int | None = None
        """Cells that a record must have, once the caller knows."""

    def _parser(self) -> Iterator[list[str]]:
        if self._quoted:
            return csv.reader(self._lines, delimiter=self._delimiter, strict=True)
        return csv.reader(self._lines, delimiter=self._delimiter, quoting=csv.QUOTE_NONE)

    def __iter__(self) -> Iterator[Record]:
        lines = self._lines
        parser = self._parser()
        while True:
            lines.taken.clear()
            try:
                cells = next(parser)
            except StopIteration:
                return
            except csv.Error as error:
                yield self._recover(str(error))
                parser = self._parser()
                continue
            if not any(map(str.strip, cells)):
                continue
            if any('="' in line for line in lines.taken):
                cells = [
                    _EXCEL_TEXT.sub(r"\1", cell) if cell[:1] == "=" else cell for cell in cells
                ]
            if self.width is not None and not any(cells[self.width :]):
                del cells[self.width :]  # delimiters behind the row, as spreadsheets leave them
            if len(lines.taken) > 1 and self._swallowed():
                yield self._recover("a quote is not closed")
                parser = self._parser()
            elif self.width is not None and len(cells) != self.width:
                yield self._recover(f"{len(cells)} cells instead of {self.width}")
                parser = self._parser()
            else:
                yield Record(lines.number - len(lines.taken) + 1, cells)

    def _swallowed(self) -> bool:
        """Whether a many-line record is really several rows of a file that quotes nothing.

        Only judged for tabs: cells of text contain commas, but hardly ever tabs.
        """
        return self._delimiter == "\t" and all(
            line.count("\t") + 1 == self.width for line in self._lines.taken
        )

    def _recover(self, problem: str) -> Record:
        if not self._lines.taken:  # end of the file inside a quote that was given back before
            return Record(self._lines.number, None, problem)
        first = self._lines.give_back_all_but_first().rstrip("\r\n")
        cells = first.split(self._delimiter)
        if self._delimiter == "\t" and len(cells) == self.width:
            return Record(self._lines.number, cells)
        return Record(self._lines.number, None, problem, first)
