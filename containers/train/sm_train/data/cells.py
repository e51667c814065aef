"""Cells of a table as values: what CSV writes as text, and what Parquet holds beside JSON's kinds.

One table gives the same rows whichever format it is written in.
"""

from __future__ import annotations

import ast
import datetime
import decimal
import io
import json
import math
import re
import tokenize
from collections.abc import Callable, Sequence
from typing import Any

_WHOLE = re.compile(r"-?(?:0|[1-9]\d*)")
_NUMBER = re.compile(r"-?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
_BOOLEANS = {"true": True, "false": False}
# What pandas calls the column of its index when it writes one: nobody's data.
INDEX_NAMES = ("", "Unnamed: 0", "__index_level_0__")

Row = dict[str, Any]


def typed_rows(rows: Sequence[dict[str, str | None]], is_text: Callable[[str], bool]) -> list[Row]:
    """Rows of text cells with the kinds that their columns have; those that are text stay so.

    A column is of whole numbers, numbers, booleans, lists or objects when all its cells are; an
    empty cell is None.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    readers = {
        name: str if is_text(name) else _reader([row[name] for row in rows if row.get(name)])
        for name in names
    }
    return [
        {name: readers[name](cell) if cell else None for name, cell in row.items()} for row in rows
    ]


def _reader(cells: Sequence[str | None]) -> Callable[[str], Any]:
    """How all cells of a column can be read; as text where nothing else fits."""
    values = [cell.strip() for cell in cells if cell is not None]
    if not values:
        return str
    if all(_WHOLE.fullmatch(cell) for cell in values):
        return int
    if all(_NUMBER.fullmatch(cell) for cell in values):
        return float
    if all(cell.lower() in _BOOLEANS for cell in values):
        return lambda cell: _BOOLEANS[cell.strip().lower()]
    if all(cell[:1] in ("[", "{") and _is_nested(cell) for cell in values):
        return nested
    return str


def _is_nested(cell: str) -> bool:
    try:
        return isinstance(nested(cell), list | dict)
    except ValueError:
        return False


def nested(text: str) -> Any:
    """A list or an object from its JSON, or from what Python prints of one (pandas writes that).

    Raises ValueError for anything else.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise ValueError("neither JSON nor a Python list") from None
    if _strings(value) != _written_strings(text):
        # NumPy prints ['a' 'b'], which Python takes for the one string 'ab'.
        raise ValueError("a list without commas, as NumPy prints it; write it as JSON")
    return value


def _strings(value: Any) -> int:
    if isinstance(value, dict):
        return sum(_strings(item) for pair in value.items() for item in pair)
    if isinstance(value, list | tuple | set):
        return sum(_strings(item) for item in value)
    return int(isinstance(value, str))


def _written_strings(text: str) -> int:
    try:
        kinds = [t.type for t in tokenize.generate_tokens(io.StringIO(text.strip()).readline)]
    except (tokenize.TokenError, SyntaxError):
        return -1
    return kinds.count(tokenize.STRING)


def plain_row(row: Row) -> Row:
    """A row of Parquet or JSON in JSON's own kinds."""
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    """Dates as ISO text, decimals as numbers, not-a-number as None; all else as it is."""
    if isinstance(value, str | bool | int) or value is None:
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        if value.keys() == {"bytes", "path"}:  # an image as `datasets` writes it
            return value
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()  # as pandas writes a column of days to CSV
    if isinstance(value, datetime.date | datetime.time):
        return str(value)
    if isinstance(value, bytes):
        return _text_of_bytes(value)
    return value


def _text_of_bytes(value: bytes) -> str | bytes:
    """Text where it is some; an image or another file as it is."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value


def text_of(value: Any) -> Any:
    """A number or a boolean as the text that CSV would have; other values as they are."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value
