"""From raw rows to examples that can be sent, with a reason for every row that cannot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sm_launch.errors import UserInputError
from sm_launch.evaluation.result import RowFailure


@dataclass(frozen=True)
class Example:
    """A row fit for evaluation; `index` is its position among all rows, from 0."""

    index: int
    text: str
    gold: str


def collect_examples(
    rows: Sequence[Mapping[str, Any]], text_column: str, label_column: str
) -> tuple[list[Example], list[RowFailure]]:
    """Splits rows into examples and failures (missing text or label).

    Raises:
        UserInputError: no rows, or a column that no row has.
    """
    if not rows:
        raise UserInputError("there are no rows to evaluate", field="rows", fix="give a test set")
    for field, column in (("text_column", text_column), ("label_column", label_column)):
        if not any(column in row for row in rows):
            raise UserInputError(
                "no row has this column",
                field=field,
                value=column,
                fix=f"name one of the columns {', '.join(map(str, rows[0]))}",
            )
    examples: list[Example] = []
    failures: list[RowFailure] = []
    for index, row in enumerate(rows):
        text, gold = row.get(text_column), row.get(label_column)
        if _missing(text):
            failures.append(RowFailure(index, f"no text in column {text_column!r}"))
        elif _missing(gold):
            failures.append(RowFailure(index, f"no label in column {label_column!r}"))
        else:
            examples.append(Example(index, str(text), str(gold).strip()))
    return examples, failures


def _missing(value: Any) -> bool:
    """None, NaN (how Parquet and pandas spell a gap), or nothing but white space."""
    if isinstance(value, float) and math.isnan(value):
        return True
    return value is None or not str(value).strip()
