"""The output of a batch transform job as the answers to the rows that went into it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sm_launch import json_lines
from sm_launch.errors import UserInputError
from sm_launch.evaluation.batches import Outcome, read_pairs
from sm_launch.evaluation.example import Example
from sm_launch.evaluation.task import Task

SUFFIX = ".out"


def read_outputs(path: Path, rows: int) -> list[Any]:
    """One answer a row, from `<input>.out` files in the order of their names.

    A line may hold one answer, or those of a whole request. A line that is not JSON counts as the
    answer of its row, which then fails.

    Args:
        path: a directory of .out files, or one file.
        rows: how many answers there must be.

    Raises:
        UserInputError: no output, or another number of answers.
    """
    files = [path] if path.is_file() else sorted(path.rglob(f"*{SUFFIX}"))
    if not files:
        raise UserInputError(
            f"there is no {SUFFIX} file here",
            field="transform_output",
            value=str(path),
            fix="name the S3OutputPath of a finished transform job",
        )
    answers = [answer for file in files for answer in _lines(file)]
    if len(answers) != rows and all(isinstance(answer, list) for answer in answers):
        answers = [item for answer in answers for item in answer]
    if len(answers) != rows:
        raise UserInputError(
            f"holds {len(answers)} answers, and the data has {rows} rows",
            field="transform_output",
            value=str(path),
            fix="name the data that went into this job; a job that failed has no complete output",
        )
    return answers


def _lines(file: Path) -> list[Any]:
    answers: list[Any] = []
    for line in json_lines.lines(file):
        try:
            answers.append(json.loads(line.text))
        except ValueError as error:
            if not line.ended:
                raise UserInputError(
                    "the file ends short: its last line is cut off",
                    field=f"{file} line {line.number}",
                    value=line.text[-80:],
                    fix="copy the file again, or run the transform job again",
                ) from error
            answers.append(line.text)
    # A lone JSON array over the whole file, as one request with Accept: application/json leaves.
    return answers[0] if len(answers) == 1 and isinstance(answers[0], list) else answers


def pair(task: Task, examples: Sequence[Example], answers: Sequence[Any]) -> Outcome:
    """The answers as predictions; those that cannot be read are failures."""
    return read_pairs(task, ((example, answers[example.index]) for example in examples))
