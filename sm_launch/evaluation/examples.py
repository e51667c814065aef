"""From raw rows to examples that can be sent, with a reason for every row that cannot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace

from sm_launch.errors import UserInputError
from sm_launch.evaluation.example import Example, Row, UnusableRow, missing
from sm_launch.evaluation.result import RowFailure
from sm_launch.evaluation.task import Task


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
    values = {column: row.get(column) for column in columns}
    return {column: "(none)" if missing(v) else str(v) for column, v in values.items()}


def _check_characters(example: Example) -> None:
    """Half a surrogate pair cannot be sent, nor written to a report; training sets it aside too."""
    try:
        json.dumps(asdict(example), ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        raise UnusableRow("half a character (a lone surrogate)") from None
