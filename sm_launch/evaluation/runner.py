"""Evaluates an endpoint: rows in, quality, latency and throughput out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sm_launch.errors import LaunchError, UserInputError
from sm_launch.evaluation.batches import (
    Outcome,
    Replies,
    answer_all,
    answer_batch,
    read_answers,
)
from sm_launch.evaluation.client import RetryPolicy, Sender, Sent
from sm_launch.evaluation.examples import Example, collect_examples
from sm_launch.evaluation.latency import LatencyPlan, latency_stats, measure_latency, spread
from sm_launch.evaluation.measure import measure
from sm_launch.evaluation.result import EvaluationResult, RowFailure, RunInfo, Throughput
from sm_launch.evaluation.store import PredictionStore
from sm_launch.evaluation.task import Task
from sm_launch.evaluation.tasks import make_task
from sm_launch.evaluation.transform import pair
from sm_launch.evaluation.wire import JSON, Invoke
from sm_launch.progress import ProgressBar

if TYPE_CHECKING:
    from sm_launch.evaluation.judge import Judge

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
    task: Task | None = None,
    labels: Sequence[str] | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    slices: Sequence[str] = (),
    judge: Judge | None = None,
    perplexity: bool = False,
    batch_size: int = 32,
    concurrency: int = 4,
    progress: StartProgress | None = None,
    max_failed_share: float = 0.01,
    latency: LatencyPlan | None = None,
    retry: RetryPolicy | None = None,
    store: PredictionStore | None = None,
    info: RunInfo | None = None,
) -> EvaluationResult:
    """Sends `rows` through `invoke` and compares the answers with those expected.

    First a few rows to look at, then single rows one at a time (latency), then everything in
    batches (throughput, quality). What is measured on the answers comes after the last one.

    Args:
        invoke: sends one request; see `session_invoker` for SageMaker sessions.
        rows: the held-out rows, with an input and an expected answer each.
        task: what is asked and how it is measured; default: text classification with the next three
            arguments.
        labels: order of the labels in tables; others are put after them by name.
        text_column: key of the text in a row; default: text.
        label_column: key of the true label in a row; default: label.
        slices: columns whose every value gets metrics of its own.
        judge: another model that grades the answers.
        perplexity: also ask for the probability of the expected answers (text generation).
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
            all, scores that are none, or a batch size, concurrency or share out of range.
        EvaluationFailedError: more rows failed than allowed.
        LaunchError: the endpoint cannot be called at all (credentials).
    """
    _check_ranges(batch_size, concurrency, max_failed_share)
    task = task or make_task(
        "text-classification", text_column=text_column, label_column=label_column, labels=labels
    )
    task.prepare()
    examples, failures = collect_examples(rows, task, slices)
    run = _Run(task, slices, len(rows), failures, max_failed_share, info or RunInfo(), store)
    run.warnings += task.settle(examples)
    sender = Sender(invoke, JSON, JSON, retry or RetryPolicy())
    show = progress or _no_progress
    try:
        run.stop_if_too_many_failed()
        waiting = run.resume(examples)
        with show("Latency", None):
            run.check_first(sender, waiting, batch_size)
            run.latency = measure_latency(sender, task, examples, latency or LatencyPlan())
        with show("Evaluating", len(examples)) as bar:
            bar.advance(len(examples) - len(waiting))
            run.main_pass(sender, waiting, batch_size, concurrency, bar)
        with show("Measuring", len(run.outcome.predictions)) as bar:
            run.score_rows(bar)
        if perplexity:
            with show("Scoring", len(run.outcome.predictions)) as bar:
                run.score_references(sender, examples, concurrency, bar)
        if judge is not None:
            with show("Judging", len(run.outcome.predictions)) as bar:
                run.judge(judge, bar)
        result = run.result()
    except BaseException:
        if store is not None:
            store.close()
        raise
    if store is not None:
        store.finish(result.predictions)
    if judge is not None:
        judge.finish()
    return result


def evaluate_outputs(
    answers: Sequence[Any],
    rows: Sequence[Mapping[str, Any]],
    *,
    task: Task,
    slices: Sequence[str] = (),
    judge: Judge | None = None,
    max_failed_share: float = 0.01,
    info: RunInfo | None = None,
    progress: StartProgress | None = None,
) -> EvaluationResult:
    """Measure answers that are there already: what a batch transform job wrote for `rows`.

    Takes the arguments of `evaluate_endpoint` and raises its errors. There is no latency.
    """
    task.prepare()
    examples, failures = collect_examples(rows, task, slices)
    run = _Run(task, slices, len(rows), failures, max_failed_share, info or RunInfo(), None)
    found = [answers[example.index] for example in examples]
    task.check_first(found, {example.gold for example in examples})
    run.outcome.add(pair(task, examples, answers))
    run.stop_if_too_many_failed()
    run.score_rows(_NoBar())
    if judge is not None:
        with (progress or _no_progress)("Judging", len(run.outcome.predictions)) as bar:
            run.judge(judge, bar)
    result = run.result()
    if judge is not None:
        judge.finish()
    return result


class _Run:
    """What is known so far, and the result made of it."""

    def __init__(
        self,
        task: Task,
        slices: Sequence[str],
        rows_total: int,
        failures: Sequence[RowFailure],
        max_failed_share: float,
        info: RunInfo,
        store: PredictionStore | None,
    ) -> None:
        self.rows_total = rows_total
        self.max_failed_share = max_failed_share
        self.task = task
        self.slices = slices
        self.info = info
        self.store = store
        self.outcome = Outcome(failures=list(failures))
        self.warnings: list[str] = []
        self.latency = latency_stats(())
        self.throughput: Throughput | None = None
        self.started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self._begin = time.perf_counter()
        self._scored = False

    def resume(self, examples: Sequence[Example]) -> list[Example]:
        """The examples still to be sent."""
        identity = self.task.identity()
        known = self.store.resume(examples, identity) if self.store is not None else []
        if not known:
            return list(examples)
        self.outcome.predictions += known
        self.warnings.append(
            f"{len(known)} predictions come from an earlier, interrupted run; "
            "throughput is of the remaining rows"
        )
        done = {prediction.index for prediction in known}
        return [example for example in examples if example.index not in done]

    def check_first(self, sender: Sender, examples: Sequence[Example], batch_size: int) -> None:
        """One batch of rows from all over the data, whose answers are looked at and not kept."""
        if not examples:
            return
        replies = answer_batch(sender, self.task, spread(examples, batch_size))
        self.outcome.retries += replies.retries
        golds = {example.gold for example in examples}
        self.task.check_first([answer for _, answer in replies.answers], golds)

    def main_pass(
        self,
        sender: Sender,
        examples: Sequence[Example],
        batch_size: int,
        concurrency: int,
        bar: ProgressBar,
    ) -> None:
        answered = 0
        sent: list[Sent] = []

        def on_done(replies: Replies) -> None:
            nonlocal answered
            outcome = read_answers(self.task, replies)
            answered += len(outcome.predictions)
            sent.extend(replies.sent)
            self.outcome.add(outcome)
            if self.store is not None:
                self.store.append(outcome.predictions)
            bar.advance(len(outcome.predictions) + len(outcome.failures))
            self.stop_if_too_many_failed()

        answer_all(
            sender,
            self.task,
            examples,
            batch_size=batch_size,
            concurrency=concurrency,
            on_done=on_done,
        )
        self.throughput = _throughput(sent, answered, batch_size, concurrency)

    def stop_if_too_many_failed(self) -> None:
        failures = self.outcome.failures
        if len(failures) <= self.max_failed_share * self.rows_total:
            return
        self.score_rows(_NoBar())
        first = min(failures, key=lambda failure: failure.index)
        raise EvaluationFailedError(
            f"{len(failures)} of {self.rows_total} rows failed, "
            f"{self.max_failed_share:.1%} are allowed; row {first.index}: {first.reason}",
            result=self.result(),
            fix="mend the rows listed under failures in evaluation.json, or allow a larger share",
        )

    def score_rows(self, bar: ProgressBar) -> None:
        """Measure each answer by itself."""
        if self._scored:
            return
        scored = []
        for prediction in self.outcome.predictions:
            scored.append(self.task.score(prediction))
            bar.advance(1)
        self.outcome.predictions, self._scored = self.task.complete(scored), True

    def score_references(
        self, sender: Sender, examples: Sequence[Example], concurrency: int, bar: ProgressBar
    ) -> None:
        """Ask how probable the expected answers are."""
        from sm_launch.evaluation.likelihood import score_answers

        sender.stop.clear()  # the main pass is over, and what ended it must not end this
        self.outcome.predictions, warnings = score_answers(
            sender,
            examples,
            self.outcome.predictions,
            concurrency=concurrency,
            advance=bar.advance,
        )
        self.warnings += warnings

    def judge(self, judge: Judge, bar: ProgressBar) -> None:
        """Have the answers graded; those that the judge failed on keep their other values."""
        graded = judge.grade(self.outcome.predictions, bar.advance)
        self.outcome.predictions = graded.predictions
        self.warnings += graded.warnings

    def result(self) -> EvaluationResult:
        predictions = sorted(self.outcome.predictions, key=lambda p: p.index)
        measured = measure(self.task, predictions, self.slices)
        return EvaluationResult(
            rows_total=self.rows_total,
            predictions=tuple(predictions),
            failures=tuple(sorted(self.outcome.failures, key=lambda failure: failure.index)),
            metrics=measured.metrics,
            latency=self.latency,
            throughput=self.throughput,
            retries=self.outcome.retries,
            started_at=self.started_at,
            duration_s=time.perf_counter() - self._begin,
            warnings=(*self.warnings, *measured.warnings),
            info=self.info,
            task=self.task.name,
            main_metric=self.task.main_metric,
            intervals=measured.intervals,
            calibration=measured.calibration,
            slices=measured.slices,
        )


def _throughput(
    sent: Sequence[Sent], answered: int, batch_size: int, concurrency: int
) -> Throughput | None:
    """From the first request's start to the last one's end; None where nothing was answered."""
    good = [each for each in sent if each.reply is not None and each.reply.status == 200]
    retries = sum(each.retries for each in good)
    under_load = latency_stats([each.latency_s for each in good], retries=retries)
    if under_load is None:
        return None
    wall = max(each.end_s for each in sent) - min(each.begin_s for each in sent)
    return Throughput(
        batch_size=batch_size,
        concurrency=concurrency,
        wall_s=wall,
        rows_per_s=answered / wall,
        requests_per_s=under_load.count / wall,
        requests=under_load.count,
        request_latency=under_load,
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
