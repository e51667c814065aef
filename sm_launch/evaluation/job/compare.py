"""Two evaluations side by side: from reports, or from endpoints that are measured first."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from sm_launch import evaluation
from sm_launch.errors import QualityGateError, UserInputError
from sm_launch.evaluation import Comparison, Prediction
from sm_launch.evaluation.comparison import SIGNIFICANT
from sm_launch.evaluation.job import run as evaluation_run
from sm_launch.evaluation.job.request import Request
from sm_launch.evaluation.paired import holm
from sm_launch.evaluation.report.comparison import write_comparison
from sm_launch.job.limits import NAME_PATTERN
from sm_launch.report.numbers import decimal, equals
from sm_launch.target.context import JobContext

PREDICTIONS, EVALUATION = "predictions.jsonl", "evaluation.json"
REPORT = "report"
"""What every job's report directory is called."""


def run(
    names: tuple[str, str],
    open_context: Callable[[], JobContext],
    *,
    data: str | None = None,
    output: Path,
    min_shared: float = evaluation.LEAST_SHARED,
) -> tuple[Comparison, Path]:
    """Compare and write comparison.json and comparison.html into `output`.

    Args:
        names: for each model a report directory, a predictions.jsonl or an endpoint's name.
        open_context: finds the job; called only where an endpoint is measured.
        data: held-out rows for endpoints.
        output: directory of the report.
        min_shared: share of the rows (0 to 1) that both must have answered.

    Raises:
        UserInputError: neither a report nor an endpoint, or of different tasks or rows.
    """
    (first, task), (second, other) = (_side(name, open_context, data, output) for name in names)
    if task != other:
        raise UserInputError(
            f"{names[0]} is {task} and {names[1]} is {other}",
            field="task",
            fix="compare two models of the same task",
        )
    made = evaluation.make_task(task)
    comparison = evaluation.compare(first, second, made, names=_short(names), min_shared=min_shared)
    return comparison, write_comparison(comparison, output, sources=names)


def _short(names: tuple[str, str]) -> tuple[str, str]:
    """Of paths the end that tells them apart, for titles and heads of columns."""
    first, second = (
        Path(name).resolve().parts if Path(name).exists() else (name,) for name in names
    )
    least = 2 if REPORT in (first[-1], second[-1]) else 1  # it says nothing
    for taken in range(least, max(len(first), len(second)) + 1):
        ends = "/".join(first[-taken:]), "/".join(second[-taken:])
        if ends[0] != ends[1]:
            return ends
    return names


def _side(
    name: str, open_context: Callable[[], JobContext], data: str | None, output: Path
) -> tuple[list[Prediction], str]:
    path = Path(name)
    if not path.exists() and NAME_PATTERN.fullmatch(name) is None:
        raise UserInputError(
            "is no file or directory here, and no name of an endpoint",
            value=name,
            fix="name the report directory of an evaluation (WORK_DIR/NAME/report), or an endpoint",
        )
    if not path.exists():
        request = Request(endpoint=name, data=data, output=output / name)
        done = evaluation_run.run(open_context(), request)
        return list(done.result.predictions), done.result.task
    file = path / PREDICTIONS if path.is_dir() else path
    task, rows = _said_of(file)
    return evaluation.read_predictions(file, rows=rows), task


def _said_of(predictions: Path) -> tuple[str, int]:
    """Task and number of predictions, as the evaluation.json beside them says.

    Raises:
        UserInputError: there is none, or it says neither.
    """
    file = predictions.parent / EVALUATION
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        task, rows = str(document["task"]), int(document["rows"]["evaluated"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserInputError(
            f"cannot be read: {error or type(error).__name__}",
            field=EVALUATION,
            value=str(file),
            fix="name the directory of a report: it tells the task and the rows of predictions",
        ) from error
    if task not in evaluation.TASKS:
        raise UserInputError(
            "this task cannot be compared",
            field=f"{EVALUATION}: task",
            value=task,
            fix=f"evaluate both models as one of {', '.join(evaluation.TASKS)}",
        )
    return task, rows


def require_not_worse(comparison: Comparison, metrics: Sequence[str]) -> None:
    """Raise QualityGateError where the second model is significantly worse.

    The p-values are corrected for the metrics named here, not for all: they were chosen before.

    Raises:
        UserInputError: there is no such metric.
    """
    known = {difference.metric: difference for difference in comparison.metrics}
    named = holm({metric: known[metric].p_value for metric in metrics if metric in known})
    worse = []
    for metric in metrics:
        if metric not in known:
            raise UserInputError(
                "the comparison has no such metric",
                field="--fail-if-worse",
                value=metric,
                fix=f"choose one of {', '.join(known)}",
            )
        difference = known[metric]
        if named[metric] < SIGNIFICANT and not difference.improved:
            change = decimal(difference.difference, sign=True)
            worse.append(f"{metric} {change} (p {equals(named[metric])})")
    if worse:
        raise QualityGateError(
            f"{comparison.second} is worse than {comparison.first}: {'; '.join(worse)}",
            field="--fail-if-worse",
            fix=f"keep {comparison.first}, or look at the lost rows in the report",
            result=comparison,
        )
