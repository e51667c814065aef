"""From raw rows to examples that can be sent, with a reason for every row that cannot."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sm_launch.errors import UserInputError
from sm_launch.evaluation.result import RowFailure

if TYPE_CHECKING:
    from sm_launch.evaluation.task import Task

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


def collect_examples(
    rows: Sequence[Row], task: Task, slices: Sequence[str] = ()
) -> tuple[list[Example], list[RowFailure]]:
    """Splits rows into examples and failures (missing input or answer).

    Raises:
        UserInputError: no rows, or a column that no row has.
    """
    if not rows:
        raise UserInputError("there are no rows to evaluate", field="rows", fix="give a test set")
    columns = [*task.columns.items(), *(("slice", column) for column in slices)]
    for name, column in columns:
        if not any(column in row for row in rows):
            raise UserInputError(
                "no row has this column",
                field=name,
                value=column,
                fix=f"name one of the columns {', '.join(map(str, rows[0]))}",
            )
    examples: list[Example] = []
    failures: list[RowFailure] = []
    for index, row in enumerate(rows):
        try:
            example = task.example(index, row)
            _check_characters(example)
        except UnusableRow as reason:
            failures.append(RowFailure(index, str(reason)))
        else:
            examples.append(replace(example, slices=_slices(row, slices)))
    return examples, failures


def _slices(row: Row, columns: Sequence[str]) -> dict[str, str]:
    found = {column: row.get(column) for column in columns}
    return {column: "(none)" if missing(v) else str(v) for column, v in found.items()}


def _check_characters(example: Example) -> None:
    """Half a surrogate pair cannot be sent, nor written to a report; training sets it aside too."""
    try:
        json.dumps(asdict(example), ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        raise UnusableRow("half a character (a lone surrogate)") from None


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
