"""Rows on their way from a reader to the cleaner: small batches, so that memory stays flat."""

from __future__ import annotations

import difflib
import marshal
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sm_launch.errors import UserInputError
from sm_launch.job.data import Column

ROWS_PER_CHUNK = 8192
_SHOWN_NAMES = 20
_SHOWN_CHARACTERS = 30


def is_null(cell: Any) -> bool:
    """Whether a cell holds nothing: null, or the NaN that stands for it in columns of numbers."""
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


@dataclass(frozen=True)
class BadRow:
    """A row that no reader could take apart."""

    row: int
    line: int | None
    detail: str
    raw: Any


@dataclass
class Chunk:
    """Consecutive rows of one file, as the reader saw them."""

    split: str
    names: list[str]
    """Column names; `0`, `1`, … where the file has none."""
    rows: list[Sequence[Any]] = field(default_factory=list)
    """Cells in the order of `names`."""
    numbers: list[int] = field(default_factory=list)
    """Each row's place in the file: 1 is the first row below the header."""
    lines: list[int] = field(default_factory=list)
    """Each row's first line in a text file, from 1; empty for Parquet and JSON arrays."""
    bad: list[BadRow] = field(default_factory=list)
    bytes_read: int = 0
    """Bytes of the file consumed so far, for progress."""
    source: str = ""
    """Name of the source that the rows are of."""
    mended: int = 0
    """Lines with bytes that are no UTF-8, read as cp1252."""
    unread: dict[str, int] = field(default_factory=dict)
    """Parts of the file that are of no split, with their rows."""

    def __len__(self) -> int:
        return len(self.rows) + len(self.bad)

    def __getstate__(self) -> dict[str, Any]:
        # Rows travel between processes twice; marshal takes half of pickle's time, where it can.
        state = dict(self.__dict__)
        try:
            state["rows"] = marshal.dumps(list(self.rows))
        except ValueError:  # dates and decimals of a Parquet file
            return state
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        rows = state["rows"]
        # Only ever bytes that __getstate__ wrote, in this run.
        state["rows"] = marshal.loads(rows) if isinstance(rows, bytes) else rows  # noqa: S302
        self.__dict__.update(state)

    def raw(self, index: int) -> dict[str, Any]:
        """Row `index` as it was, by column name."""
        return dict(zip(self.names, self.rows[index], strict=True))

    def line(self, index: int) -> int | None:
        """First line of row `index` in the file, where lines mean something."""
        return self.lines[index] if self.lines else None


def short_list(names: Sequence[str]) -> str:
    """Names for an error message: not more, and not longer, than a person reads."""
    cut = [n if len(n) <= _SHOWN_CHARACTERS else n[:_SHOWN_CHARACTERS] + "…" for n in names]
    more = f" and {len(cut) - _SHOWN_NAMES} more" if len(cut) > _SHOWN_NAMES else ""
    return ", ".join(cut[:_SHOWN_NAMES]) + more


def find_column(names: Sequence[str], column: Column) -> tuple[int, tuple[str, ...]] | None:
    """Position of a column, and the keys that lead further into its objects; None: not there.

    A column's own name goes before a dotted one: `meta.lang` may be either.
    """
    if isinstance(column, int):
        return (column, ()) if 0 <= column < len(names) else None
    if column in names:
        return names.index(column), ()
    parts = column.split(".")
    for end in range(len(parts) - 1, 0, -1):
        head = ".".join(parts[:end])
        if head in names:
            return names.index(head), tuple(parts[end:])
    return None


def cell(cells: Sequence[Any], place: tuple[int, tuple[str, ...]] | None) -> Any:
    """The value at a place that `find_column` gave; None where an object on the way lacks it."""
    if place is None:
        return None
    at, path = place
    value = cells[at]
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def column_index(
    names: Sequence[str], column: Column, *, field: str, location: str, is_table: bool
) -> None:
    """Check that a column is there, given by name, dotted name or 0-based index.

    Raises:
        UserInputError: there is no such column; the nearest one is suggested.
    """
    if find_column(names, column) is not None:
        return
    if isinstance(column, int):
        raise UserInputError(
            f"{location} has {len(names)} columns, 0 to {len(names) - 1}",
            field=field,
            value=column,
            fix="give an index in that range, or check data.delimiter",
        )
    by_folded = {name.strip().casefold(): name for name in names}
    close = difflib.get_close_matches(column.strip().casefold(), by_folded, n=1, cutoff=0.5)
    hint = f"did you mean {by_folded[close[0]]!r}? " if close else ""
    delimiter = " (one column only: check data.delimiter)" if len(names) == 1 else ""
    table = (
        f"{delimiter}; where these are the first row's values the file has no header: set "
        "data.header: false and give columns by index"
    )
    raise UserInputError(
        f"no such column in {location}",
        field=field,
        value=column,
        fix=f"{hint}the columns are: {short_list(names)}{table if is_table else ''}",
    )
