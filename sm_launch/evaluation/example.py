"""A row that can be sent, or why it cannot."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Row = Mapping[str, Any]


class UnusableRow(ValueError):  # noqa: N818 - a verdict on a row, not a failure of the program
    """The row has no input or no expected answer; the text says what is missing."""


@dataclass(frozen=True)
class Example:
    """A row fit for evaluation; `index` is its position among all rows, from 0.

    `payload` is what is sent as one input, where that is not `text` itself. `references` are the
    accepted answers where there may be several.
    """

    index: int
    text: str
    gold: str
    payload: Any = None
    references: tuple[str, ...] = ()
    slices: Mapping[str, str] = field(default_factory=dict)


def required_text(row: Row, column: str, what: str) -> str:
    """The cell as text. Raises UnusableRow where it is empty."""
    value = row.get(column)
    if missing(value):
        raise UnusableRow(f"no {what} in column {column!r}")
    return str(value)


def missing(value: Any) -> bool:
    """None, NaN (how Parquet and pandas spell a gap), or nothing but white space."""
    if isinstance(value, float) and math.isnan(value):
        return True
    return value is None or not str(value).strip()
