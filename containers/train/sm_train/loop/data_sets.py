"""Several held-out data sets: each is scored by itself, beside the score of all of them.

transformers does so with a dict of data sets, and then has no score of all: the best weights would
be those of one. Here `eval_loss` stays that of all rows, and `eval_code_loss` is that of `code`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import EarlyStoppingCallback, TrainerCallback

from sm_train.data.mixing import rows_apart
from sm_train.job import Job
from sm_train.log import print_line


def sets_apart(job: Job, split: str) -> dict[str, list[int]]:
    """The places of a split's rows by data set; {} where there is one, or only scores of all.

    For methods whose trainer scores any rows: TRL's.
    """
    places = rows_apart(job.data, split)
    one = "" in places or len(places) < 2
    return {} if one or job.config.method.held_out is None else places


class DataSetNames(TrainerCallback):  # type: ignore[misc]
    """Logs what is measured of one data set under its name: TRL calls part of it eval_… always."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Rename them in the event and in the history."""
        for event in (logs or {}, state.log_history[-1]):
            renamed = {self._named(key): value for key, value in event.items()}
            event.clear()
            event.update(renamed)

    def _named(self, key: str) -> str:
        if key.startswith(f"{self.prefix}_") or not key.startswith("eval_"):
            return key
        return f"{self.prefix}_{key.removeprefix('eval_')}"


class PatienceCallback(EarlyStoppingCallback):  # type: ignore[misc]
    """Early stopping that waits for the evaluation which has its metric."""

    def on_evaluate(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """As transformers has it."""
        name = str(args.metric_for_best_model)
        name = name if name.startswith("eval_") else f"eval_{name}"
        if name in others["metrics"]:
            super().on_evaluate(args, state, control, **others)


def evaluate_apart(job: Job, trainer: Any) -> None:
    """Let each evaluation while training score the data sets of validation, and then all rows."""
    rows = rows_apart(job.data, "validation")
    sets = sets_apart(job, "validation")
    if job.config.method.measures_rows:
        measure_apart(job, trainer)
        return
    if sets and len(trainer.eval_dataset) != sum(map(len, sets.values())):
        sets = {}  # its trainer makes other rows of them
    if len(rows) > 1 and not sets and job.is_main:
        print_line("validation data sets are scored together: this method looks at all rows")
    if not sets:
        return
    of_all = trainer._evaluate

    def evaluate(*arguments: Any, **named: Any) -> dict[str, float]:
        scores: dict[str, float] = {}
        for name, places in sets.items():
            scores |= scores_of(trainer, trainer.eval_dataset, places, f"eval_{name}")
        return {**scores, **of_all(*arguments, **named)}

    trainer._evaluate = evaluate


def measure_apart(job: Job, trainer: Any) -> None:
    """Let the measures of predictions be taken of each data set, too: none is predicted twice."""
    splits = {"eval": "validation", "test": "test"}
    sets = {prefix: rows_apart(job.data, split) for prefix, split in splits.items()}
    compute, loop = trainer.compute_metrics, trainer.evaluation_loop
    current = "eval"

    def evaluation_loop(*arguments: Any, **named: Any) -> Any:
        nonlocal current
        current = named.get("metric_key_prefix", "eval")
        return loop(*arguments, **named)

    def measured(prediction: Any) -> dict[str, float]:
        scores = dict(compute(prediction))
        parts = sets.get(current, {})
        for name, places in parts.items() if len(parts) > 1 else ():
            part = compute(_part(prediction, places))
            scores |= {f"{name}_{key}": value for key, value in part.items()}
        return scores

    trainer.compute_metrics, trainer.evaluation_loop = measured, evaluation_loop


def _part(prediction: Any, places: Sequence[int]) -> Any:
    """Some rows of a prediction; its `inputs` say which."""
    from transformers import EvalPrediction

    def chosen(values: Any) -> Any:
        return tuple(map(chosen, values)) if isinstance(values, tuple) else values[places]

    return EvalPrediction(chosen(prediction.predictions), chosen(prediction.label_ids), places)


def scores_of(trainer: Any, dataset: Any, places: Sequence[int], prefix: str) -> dict[str, float]:
    """What is measured of some rows of a data set, under a prefix of their own."""
    names = DataSetNames(prefix)
    # First, so that every callback gets them by these names.
    trainer.callback_handler.callbacks.insert(0, names)
    try:
        metrics = dict(trainer.evaluate(dataset.select(places), metric_key_prefix=prefix))
    finally:
        trainer.callback_handler.callbacks.remove(names)
    return {
        key: float(value)
        for key, value in (metrics | trainer.state.log_history[-1]).items()
        if key.startswith(f"{prefix}_") and isinstance(value, int | float)
    }
