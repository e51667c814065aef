"""How the cells of a CSV are separated, where job.yaml does not say: Excel's and Europe's ways."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sm_launch.errors import UserInputError
from sm_launch.job.data import DataConfig

_SAMPLE_CHARACTERS = 1 << 16
_SAMPLE_ROWS = 20
_DELIMITERS = (",", ";", "\t", "|")
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*')
"""What Excel writes, and reads, as a first line that is no data."""


@dataclass(frozen=True)
class Dialect:
    """Delimiter, and how many lines stand before the table."""

    delimiter: str
    skip: int = 0


def dialect(path: Path, encoding: str, config: DataConfig, default: str, location: str) -> Dialect:
    """Read it off the beginning of a file.

    Args:
        path: of the file.
        encoding: of its text.
        config: a delimiter named there is taken.
        default: delimiter of the format.
        location: for messages.

    Raises:
        UserInputError: a file without a header could be read in two ways.
    """
    try:
        with path.open(encoding=encoding, errors="surrogateescape", newline="") as file:
            sample = file.read(_SAMPLE_CHARACTERS)
    except (LookupError, UnicodeError):  # the reader says so
        return Dialect(config.delimiter or default)
    lines = list(io.StringIO(sample.lstrip("\ufeff"), newline=""))
    if len(sample) == _SAMPLE_CHARACTERS:
        lines.pop()  # it may be cut
    named = _SEPARATOR_LINE.fullmatch(lines[0]) if lines else None
    if named:
        return Dialect(config.delimiter or named[1], skip=1)
    if config.delimiter or config.quoting == "none":
        return Dialect(config.delimiter or default)
    candidates = [default, *(one for one in _DELIMITERS if one != default)]
    tables = {one: _rows(lines, one) for one in candidates}
    if config.header:
        return Dialect(_by_header(tables, config))
    return Dialect(_by_width(tables, default, location))


def _rows(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    rows: list[list[str]] = []
    try:
        for row in csv.reader(lines, delimiter=delimiter):
            if row:
                rows.append(row)
            if len(rows) == _SAMPLE_ROWS:
                break
    except csv.Error:
        pass
    return rows


def _by_header(tables: dict[str, list[list[str]]], config: DataConfig) -> str:
    """The delimiter that shows most of the columns that are looked for; the format's own first."""
    given = config.columns.model_dump().values()
    named = [name for one in given for name in (one if isinstance(one, list) else [one])]
    wanted = {name for name in named if isinstance(name, str)}

    def columns_shown(delimiter: str) -> tuple[int, bool]:
        header = tables[delimiter][0] if tables[delimiter] else []
        shown = len(wanted.intersection(cell.strip() for cell in header))
        return shown, len(header) > 1

    return max(tables, key=columns_shown)


def _by_width(tables: dict[str, list[list[str]]], default: str, location: str) -> str:
    """The delimiter that cuts every row into as many cells."""
    even = [
        delimiter
        for delimiter, rows in tables.items()
        if len({len(row) for row in rows}) == 1 and len(rows[0]) > 1
    ]
    if default in even and len(even) > 1 and default == ",":
        raise UserInputError(
            f"{location} could be separated by {' or by '.join(map(repr, even))}",
            field="data.delimiter",
            fix="say which one it is",
        )
    return even[0] if even else default
