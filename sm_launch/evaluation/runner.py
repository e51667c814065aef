"""Evaluates an endpoint: rows in, quality, latency and throughput out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sm_launch.errors import LaunchError
from sm_launch.evaluation.batches import (
    Outcome,
    Replies,
    answer_all,
    answer_batch,
    read_answers,
)
from sm_launch.evaluation.client import Sender, Sent
from sm_launch.evaluation.example import Example
from sm_launch.evaluation.examples import collect_examples
from sm_launch.evaluation.latency import latency_stats, measure_latency, spread
from sm_launch.evaluation.load import load_test
from sm_launch.evaluation.measure import measure
from sm_launch.evaluation.plan import EvaluationPlan
from sm_launch.evaluation.result import EvaluationResult, LoadTest, RowFailure, Throughput
from sm_launch.evaluation.transform import pair
from sm_launch.evaluation.wire import JSON, Invoke
from sm_launch.progress import ProgressBar


class EvaluationFailedError(LaunchError):
    """More rows failed than allowed. `result` holds what was found until then."""

    def __init__(self, message: str, *, result: EvaluationResult, fix: str) -> None:
        self.result = result
        super().__init__(message, field="evaluation.max_failed_share", fix=fix)


def evaluate_endpoint(
    invoke: Invoke, rows: Sequence[Mapping[str, Any]], plan: EvaluationPlan | None = None
) -> EvaluationResult:
    """Sends `rows` through `invoke` and compares the answers with those expected.

    First a few rows to look at, then single rows one at a time (latency), then everything in
    batches (throughput, quality). What is measured on the answers comes after the last one.

    Args:
        invoke: sends one request; see `session_invoker` for SageMaker sessions.
        rows: the held-out rows, with an input and an expected answer each.
        plan: what is asked and measured, and how; default: text classification.

    Raises:
        UserInputError: no rows, a column that no row has, labels that the model does not know at
            all, or scores that are none.
        EvaluationFailedError: more rows failed than allowed.
        LaunchError: the endpoint cannot be called at all (credentials).
    """
    plan = plan or EvaluationPlan()
    run, examples = _begin(rows, plan)
    run.warnings += plan.task.settle(examples)
    sender = Sender(invoke, JSON, JSON, plan.retry)
    try:
        run.stop_if_too_many_failed()
        waiting = run.resume(examples)
        with plan.progress("Latency", None):
            run.check_first(sender, waiting)
            run.latency = measure_latency(sender, plan.task, examples, plan.latency)
        with plan.progress("Evaluating", len(examples)) as bar:
            bar.advance(len(examples) - len(waiting))
            run.main_pass(sender, waiting, bar)
        if plan.load is not None:
            with plan.progress("Load", None):
                run.load = load_test(sender, plan.task, examples, plan.load)
        with plan.progress("Measuring", len(run.outcome.predictions)) as bar:
            run.score_rows(bar)
        if plan.perplexity:
            with plan.progress("Scoring", len(run.outcome.predictions)) as bar:
                run.score_references(sender, examples, bar)
        run.judge()
        result = run.result()
    except BaseException:
        if plan.store is not None:
            plan.store.close()
        raise
    if plan.store is not None:
        plan.store.finish(result.predictions)
    if plan.judge is not None:
        plan.judge.finish()
    return result


def evaluate_outputs(
    answers: Sequence[Any], rows: Sequence[Mapping[str, Any]], plan: EvaluationPlan
) -> EvaluationResult:
    """Measure answers that are there already: what a batch transform job wrote for `rows`.

    Raises the errors of `evaluate_endpoint`. There is no latency, and nothing to be continued.
    """
    run, examples = _begin(rows, plan)
    answered = [answers[example.index] for example in examples]
    plan.task.check_first(answered, {example.gold for example in examples})
    run.outcome.add(pair(plan.task, examples, answers))
    run.stop_if_too_many_failed()
    run.score_rows(ProgressBar())
    run.judge()
    result = run.result()
    if plan.judge is not None:
        plan.judge.finish()
    return result


def _begin(rows: Sequence[Mapping[str, Any]], plan: EvaluationPlan) -> tuple[_Run, list[Example]]:
    plan.task.prepare()
    examples, failures = collect_examples(rows, plan.task, plan.slices)
    return _Run(plan, len(rows), failures), examples


class _Run:
    """What is known so far, and the result made of it."""

    def __init__(self, plan: EvaluationPlan, rows_total: int, failures: list[RowFailure]) -> None:
        self.plan = plan
        self.task = plan.task
        self.rows_total = rows_total
        self.outcome = Outcome(failures=failures)
        self.warnings: list[str] = []
        self.latency = latency_stats(())
        self.throughput: Throughput | None = None
        self.load: LoadTest | None = None
        self.started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self._begin = time.perf_counter()
        self._scored = False

    def resume(self, examples: Sequence[Example]) -> list[Example]:
        """The examples still to be sent."""
        identity = self.task.identity()
        store = self.plan.store
        known = store.resume(examples, identity) if store is not None else []
        if not known:
            return list(examples)
        self.outcome.predictions += known
        self.warnings.append(
            f"{len(known)} predictions come from an earlier, interrupted run; "
            "throughput is of the remaining rows"
        )
        done = {prediction.index for prediction in known}
        return [example for example in examples if example.index not in done]

    def check_first(self, sender: Sender, examples: Sequence[Example]) -> None:
        """One batch of rows from all over the data, whose answers are looked at and not kept."""
        if not examples:
            return
        replies = answer_batch(sender, self.task, spread(examples, self.plan.batch_size))
        self.outcome.retries += replies.retries
        golds = {example.gold for example in examples}
        self.task.check_first([answer for _, answer in replies.answers], golds)

    def main_pass(self, sender: Sender, examples: Sequence[Example], bar: ProgressBar) -> None:
        plan = self.plan
        answered = 0
        sent: list[Sent] = []

        def on_done(replies: Replies) -> None:
            nonlocal answered
            outcome = read_answers(self.task, replies)
            answered += len(outcome.predictions)
            sent.extend(replies.sent)
            self.outcome.add(outcome)
            if plan.store is not None:
                plan.store.append(outcome.predictions)
            bar.advance(len(outcome.predictions) + len(outcome.failures))
            self.stop_if_too_many_failed()

        answer_all(
            sender,
            self.task,
            examples,
            batch_size=plan.batch_size,
            concurrency=plan.concurrency,
            on_done=on_done,
        )
        self.throughput = _throughput(sent, answered, plan)

    def stop_if_too_many_failed(self) -> None:
        failures, allowed = self.outcome.failures, self.plan.max_failed_share
        if len(failures) <= allowed * self.rows_total:
            return
        self.score_rows(ProgressBar())
        first = min(failures, key=lambda failure: failure.index)
        raise EvaluationFailedError(
            f"{len(failures)} of {self.rows_total} rows failed, "
            f"{allowed:.1%} are allowed; row {first.index}: {first.reason}",
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
        self, sender: Sender, examples: Sequence[Example], bar: ProgressBar
    ) -> None:
        """Ask how probable the expected answers are."""
        from sm_launch.evaluation.likelihood import score_answers

        sender.stop.clear()  # the main pass is over, and what ended it must not end this
        self.outcome.predictions, warnings = score_answers(
            sender,
            examples,
            self.outcome.predictions,
            concurrency=self.plan.concurrency,
            advance=bar.advance,
        )
        self.warnings += warnings

    def judge(self) -> None:
        """Have the answers graded; those that the judge failed on keep their other values."""
        if self.plan.judge is None:
            return
        with self.plan.progress("Judging", len(self.outcome.predictions)) as bar:
            graded = self.plan.judge.grade(self.outcome.predictions, bar.advance)
        self.outcome.predictions = graded.predictions
        self.warnings += graded.warnings

    def result(self) -> EvaluationResult:
        predictions = sorted(self.outcome.predictions, key=lambda p: p.index)
        measured = measure(self.task, predictions, self.plan.slices)
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
            info=self.plan.info,
            task=self.task.name,
            main_metric=self.task.main_metric,
            intervals=measured.intervals,
            calibration=measured.calibration,
            slices=measured.slices,
            load=self.load,
        )


def _throughput(sent: Sequence[Sent], answered: int, plan: EvaluationPlan) -> Throughput | None:
    """From the first request's start to the last one's end; None where nothing was answered."""
    good = [each for each in sent if each.reply is not None and each.reply.status == 200]
    retries = sum(each.retries for each in good)
    under_load = latency_stats([each.latency_s for each in good], retries=retries)
    if under_load is None:
        return None
    wall = max(each.end_s for each in sent) - min(each.begin_s for each in sent)
    return Throughput(
        batch_size=plan.batch_size,
        concurrency=plan.concurrency,
        wall_s=wall,
        rows_per_s=answered / wall,
        requests_per_s=under_load.count / wall,
        requests=under_load.count,
        request_latency=under_load,
    )
