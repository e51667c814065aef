"""Evaluates a classification endpoint: rows in, quality, latency and throughput out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import Any

from sm_launch.errors import LaunchError, UserInputError
from sm_launch.evaluation.batches import Outcome, answer_all
from sm_launch.evaluation.client import RetryPolicy, Sender
from sm_launch.evaluation.examples import Example, collect_examples
from sm_launch.evaluation.latency import LatencyPlan, latency_stats, measure_latency
from sm_launch.evaluation.metrics import classification_metrics, label_order
from sm_launch.evaluation.result import (
    EvaluationResult,
    Prediction,
    RowFailure,
    RunInfo,
    Throughput,
)
from sm_launch.evaluation.store import PredictionStore
from sm_launch.evaluation.wire import JSON, Invoke
from sm_launch.progress import ProgressBar

StartProgress = Callable[[str, float | None], AbstractContextManager[ProgressBar]]
"""`sm_launch.progress.progress`, or anything that is called like it."""


class EvaluationFailedError(LaunchError):
    """More rows failed than allowed. `result` holds what was found until then."""

    def __init__(self, message: str, *, result: EvaluationResult, fix: str) -> None:
        self.result = result
        super().__init__(message, field="max_failed_share", fix=fix)


def evaluate_endpoint(
    invoke: Invoke,
    rows: Sequence[Mapping[str, Any]],
    *,
    labels: Sequence[str] | None = None,
    text_column: str = "text",
    label_column: str = "label",
    batch_size: int = 32,
    concurrency: int = 4,
    progress: StartProgress | None = None,
    max_failed_share: float = 0.01,
    latency: LatencyPlan | None = None,
    retry: RetryPolicy | None = None,
    store: PredictionStore | None = None,
    info: RunInfo | None = None,
) -> EvaluationResult:
    """Classifies `rows` through `invoke` and compares with their labels.

    First single rows one at a time (latency), then everything in batches (throughput, quality).

    Args:
        invoke: sends one request; see `session_invoker` for SageMaker sessions.
        rows: the held-out rows, with a text and a label each.
        labels: order of the labels in tables; others are put after them by name.
        text_column: key of the text in a row.
        label_column: key of the true label in a row.
        batch_size: rows per request in the main pass.
        concurrency: requests under way at a time in the main pass.
        progress: shows a bar; `sm_launch.progress.progress` fits.
        max_failed_share: share of rows (0 to 1) that may fail; the rest of the run is saved as soon
            as more did.
        latency: how latency is measured.
        retry: how requests are repeated.
        store: keeps predictions on disk and continues an interrupted evaluation.
        info: copied into the result.

    Raises:
        UserInputError: no rows, a column that no row has, labels that the model does not know at
            all, or a batch size, concurrency or share out of range.
        EvaluationFailedError: more rows failed than allowed.
        LaunchError: the endpoint cannot be called at all (credentials).
    """
    _check_ranges(batch_size, concurrency, max_failed_share)
    examples, failures = collect_examples(rows, text_column, label_column)
    run = _Run(len(rows), failures, max_failed_share, labels, info or RunInfo(), store)
    sender = Sender(invoke, JSON, JSON, retry or RetryPolicy())
    show = progress or _no_progress
    try:
        run.stop_if_too_many_failed()
        waiting = run.resume(examples)
        with show("Latency", None):
            run.latency = measure_latency(
                sender, [e.text for e in examples], latency or LatencyPlan()
            )
        with show("Evaluating", len(examples)) as bar:
            bar.advance(len(examples) - len(waiting))
            run.main_pass(sender, waiting, batch_size, concurrency, bar)
        result = run.result()
        _check_labels(result, label_column)
    except BaseException:
        if store is not None:
            store.close()
        raise
    if store is not None:
        store.finish(result.predictions)
    return result


class _Run:
    """What is known so far, and the result made of it."""

    def __init__(
        self,
        rows_total: int,
        failures: Sequence[RowFailure],
        max_failed_share: float,
        labels: Sequence[str] | None,
        info: RunInfo,
        store: PredictionStore | None,
    ) -> None:
        self.rows_total = rows_total
        self.max_failed_share = max_failed_share
        self.labels = labels
        self.info = info
        self.store = store
        self.outcome = Outcome(failures=list(failures))
        self.warnings: list[str] = []
        self.latency = latency_stats(())
        self.throughput: Throughput | None = None
        self.started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self._begin = time.perf_counter()

    def resume(self, examples: Sequence[Example]) -> list[Example]:
        """The examples still to be sent."""
        known = self.store.resume(examples) if self.store is not None else []
        if not known:
            return list(examples)
        self.outcome.predictions += known
        self.warnings.append(
            f"{len(known)} predictions come from an earlier, interrupted run; "
            "throughput is of the remaining rows"
        )
        done = {prediction.index for prediction in known}
        return [example for example in examples if example.index not in done]

    def main_pass(
        self,
        sender: Sender,
        examples: Sequence[Example],
        batch_size: int,
        concurrency: int,
        bar: ProgressBar,
    ) -> None:
        measured = Outcome()

        def on_done(outcome: Outcome) -> None:
            measured.add(outcome)
            self.outcome.add(outcome)
            if self.store is not None:
                self.store.append(outcome.predictions)
            bar.advance(len(outcome.predictions) + len(outcome.failures))
            self.stop_if_too_many_failed()

        begin = time.perf_counter()
        answer_all(
            sender, examples, batch_size=batch_size, concurrency=concurrency, on_done=on_done
        )
        wall = time.perf_counter() - begin
        under_load = latency_stats(measured.latencies_s)
        if under_load is not None:
            self.throughput = Throughput(
                batch_size=batch_size,
                concurrency=concurrency,
                wall_s=wall,
                rows_per_s=len(measured.predictions) / wall,
                requests_per_s=under_load.count / wall,
                requests=under_load.count,
                request_latency=under_load,
            )

    def stop_if_too_many_failed(self) -> None:
        failures = self.outcome.failures
        if len(failures) <= self.max_failed_share * self.rows_total:
            return
        first = min(failures, key=lambda failure: failure.index)
        raise EvaluationFailedError(
            f"{len(failures)} of {self.rows_total} rows failed, "
            f"{self.max_failed_share:.1%} are allowed; row {first.index}: {first.reason}",
            result=self.result(),
            fix="mend the rows listed under failures in evaluation.json, or allow a larger share",
        )

    def result(self) -> EvaluationResult:
        predictions = sorted(self.outcome.predictions, key=lambda p: p.index)
        metrics = classification_metrics(predictions, self.labels) if predictions else None
        unknown = _unknown_labels(predictions)
        warnings = list(self.warnings)
        if unknown:
            warnings.append(
                f"the model never named the labels {', '.join(map(repr, unknown))}: "
                "their rows count as wrong"
            )
        return EvaluationResult(
            rows_total=self.rows_total,
            predictions=tuple(predictions),
            failures=tuple(sorted(self.outcome.failures, key=lambda failure: failure.index)),
            metrics=metrics,
            latency=self.latency,
            throughput=self.throughput,
            retries=self.outcome.retries,
            started_at=self.started_at,
            duration_s=time.perf_counter() - self._begin,
            warnings=tuple(warnings),
            info=self.info,
        )


def _unknown_labels(predictions: Sequence[Prediction]) -> list[str]:
    """Labels of the data that the model gave no score for, told only where it gives scores."""
    named = {label for p in predictions for label in (*p.scores, p.predicted)}
    told_all = all(p.scores for p in predictions)
    return sorted({p.gold for p in predictions} - named) if told_all else []


def _check_labels(result: EvaluationResult, label_column: str) -> None:
    unknown = _unknown_labels(result.predictions)
    if unknown and set(unknown) == {p.gold for p in result.predictions}:
        named = sorted(set(label_order(None, result.predictions)) - set(unknown))
        raise UserInputError(
            f"the model knows none of these labels; it answers {', '.join(named)}",
            field=label_column,
            value=", ".join(unknown),
            fix="map the labels of the data, or train with label names instead of ids",
        )


def _check_ranges(batch_size: int, concurrency: int, max_failed_share: float) -> None:
    for field, value in (("batch_size", batch_size), ("concurrency", concurrency)):
        if value < 1:
            raise UserInputError("must be at least 1", field=field, value=value, fix="give 1")
    if not 0 <= max_failed_share <= 1:
        raise UserInputError(
            "must be a share from 0 to 1",
            field="max_failed_share",
            value=max_failed_share,
            fix="write 0.01 for one percent",
        )


class _NoBar:
    def advance(self, amount: float = 1) -> None:
        """Nobody watches."""

    def update(
        self,
        *,
        description: str | None = None,
        completed: float | None = None,
        total: float | None = None,
    ) -> None:
        """Nobody watches."""


@contextmanager
def _no_progress(description: str, total: float | None) -> Iterator[ProgressBar]:
    yield _NoBar()
