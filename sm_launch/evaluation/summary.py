"""The short account of an evaluation or a comparison, for terminals and notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sm_launch.evaluation.comparison import Comparison
from sm_launch.evaluation.gates import GateResult
from sm_launch.evaluation.result import EvaluationResult, Interval, LatencyStats, LoadTest
from sm_launch.report.numbers import decimal, equals, p_value

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

_HEAD = 9
"""Characters that a model's name may have above its column."""

HEADLINES = {
    "accuracy": "accuracy",
    "precision_macro": "precision (macro)",
    "recall_macro": "recall (macro)",
    "f1_macro": "F1 (macro)",
    "f1_weighted": "F1 (weighted)",
    "precision_micro": "precision (micro)",
    "recall_micro": "recall (micro)",
    "f1_micro": "F1 (micro)",
    "f1_samples": "F1 (samples)",
    "subset_accuracy": "subset accuracy",
    "hamming_loss": "Hamming loss",
    "roc_auc_macro": "ROC-AUC (macro)",
    "ece": "calibration error",
    "ece_debiased": "calibration error, less chance",
    "mse": "mean squared error",
    "mae": "mean absolute error",
    "r2": "R²",
    "quadratic_weighted_kappa": "kappa (quadratic weights)",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "exact_match": "exact match",
    "HasAns_f1": "F1, answerable",
    "NoAns_f1": "F1, unanswerable",
    "cosine_ndcg@10": "NDCG@10",
    "cosine_mrr@10": "MRR@10",
    "cosine_accuracy@1": "found first",
    "cosine_accuracy": "accuracy (cosine)",
    "cosine_ap": "average precision (cosine)",
    "spearman_cosine": "Spearman (cosine)",
    "pearson_cosine": "Pearson (cosine)",
    "margin": "margin of the chosen answer",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "bleu": "BLEU",
    "chrf": "chrF",
    "judge": "judge (0 to 1)",
    "loss": "loss (nats a token)",
    "perplexity": "perplexity",
    "word_perplexity": "perplexity of a word",
    "byte_perplexity": "perplexity of a byte",
}


def render_summary(result: EvaluationResult, gates: Sequence[GateResult] = ()) -> Group:
    """A rich renderable: headline numbers, a line per class, warnings and gates."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Table | Text] = [_metrics(result), _load(result)]
    if result.metrics is not None and result.metrics.per_class:
        parts.append(_classes(result))
    if result.slices:
        parts.append(_slices(result))
    parts += [Text(f"warning: {warning}", style="yellow") for warning in result.warnings]
    parts += [Text(f"gate: {gate}", style="green" if gate.passed else "red") for gate in gates]
    return Group(*parts)


def _metrics(result: EvaluationResult) -> Table:
    """A line per headline metric; it fits a terminal of 80 columns."""
    from rich.table import Table

    summary = result.metrics.summary if result.metrics is not None else {}
    table = Table(box=None, padding=(0, 2))
    table.add_column("metric")
    table.add_column("", justify="right", style="bold")
    table.add_column("95 % interval", style="dim")
    if result.training:
        table.add_column("training", style="dim", justify="right")
    # A benchmark's metrics have the names of its tasks.
    own = {} if HEADLINES.keys() & summary.keys() else dict(zip(summary, summary, strict=True))
    for name, title in {**HEADLINES, **own}.items():
        if name in summary:
            trained = result.training.get(name)
            more = [] if trained is None else [decimal(trained)]
            table.add_row(
                title, decimal(summary[name]), _interval(result.intervals.get(name)), *more
            )
    return table


def _load(result: EvaluationResult) -> Table:
    """How many rows were asked, and how fast they were answered."""
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_column()
    table.add_column(justify="right", style="bold")
    table.add_column(style="dim")
    table.add_row("rows", f"{len(result.predictions)} of {result.rows_total}")
    if result.failures:
        table.add_row("failed rows", f"[red]{len(result.failures)}[/red]")
    if result.latency is not None:
        again = _repeated(result.latency)
        table.add_row("latency p50 / p95 / p99", _milliseconds(result.latency), again)
    if result.throughput is not None:
        load = result.throughput
        setting = f"batch {load.batch_size} × {load.concurrency}"
        again = _repeated(load.request_latency)
        table.add_row(f"throughput ({setting})", f"{load.rows_per_s:.1f} rows/s", again)
    for name, value, more in _under_load(result.load):
        table.add_row(name, value, more)
    return table


def _under_load(test: LoadTest | None) -> list[tuple[str, str, str]]:
    if test is None:
        return []
    limit, best = f"p99 within {test.p99_ms:g} ms", test.best
    if best is None:
        fastest = min((step.p99_ms for step in test.steps if step.requests), default=0.0)
        return [(limit, "never", f"p99 was {fastest:.1f} ms at the least")]
    rows = [
        (
            limit,
            f"{best.requests_per_s:.1f} requests/s",
            f"{best.concurrency} at a time, p50 {best.p50_ms:.1f}, p99 {best.p99_ms:.1f} ms",
        )
    ]
    for each in test.costs:
        place = "measured on it" if each.measured else "if it answered as many"
        name = f"a million on {each.instances} x {each.type}"
        rows.append((name, f"${each.dollars:.2f}", f"{place}, ${each.dollars_an_hour:.3f}/h"))
    return rows


def _repeated(stats: LatencyStats) -> str:
    return f"with {stats.retries} repeated attempts" if stats.retries else ""


def _interval(interval: Interval | None) -> str:
    return f"{interval.low:.4f} to {interval.high:.4f}" if interval else ""


def _slices(result: EvaluationResult) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, padding=(0, 2))
    table.add_column("slice")
    headline = HEADLINES.get(result.main_metric, result.main_metric)
    for title in (headline, "95 % interval", "rows"):
        table.add_column(title, justify="right")
    for part in result.slices:
        value = part.metrics.get(result.main_metric)
        shown = "" if value is None else decimal(value)
        name = escape(f"{part.column} = {part.value}")
        table.add_row(name, shown, _interval(part.interval), str(part.rows))
    return table


def _milliseconds(stats: LatencyStats) -> str:
    return " / ".join(f"{value:.1f}" for value in (stats.p50_ms, stats.p95_ms, stats.p99_ms)) + (
        " ms"
    )


def _classes(result: EvaluationResult) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, padding=(0, 2))
    table.add_column("class")
    for title in ("precision", "recall", "F1", "rows"):
        table.add_column(title, justify="right")
    for entry in result.metrics.per_class if result.metrics is not None else ():
        values = ("–" if value is None else decimal(value) for value in entry.rates)
        table.add_row(escape(entry.label), *values, str(entry.support))
    return table


def render_comparison(comparison: Comparison) -> Group:
    """A rich renderable of 80 columns: a line a metric, and who was right alone."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("metric", no_wrap=True)
    named = max(len(comparison.first), len(comparison.second)) <= _HEAD
    for title in (comparison.first, comparison.second) if named else ("first", "second"):
        table.add_column(escape(title), justify="right", no_wrap=True)
    for title in ("difference", "95 % interval", "p (Holm)"):
        table.add_column(title, justify="right", no_wrap=True)
    for m in comparison.metrics:
        colour = "dim" if not m.significant else "green" if m.improved else "red"
        table.add_row(
            m.metric,
            decimal(m.first),
            decimal(m.second),
            f"[{colour}]{m.difference:+.4f}[/{colour}]",
            f"{m.interval.low:+.4f} to {m.interval.high:+.4f}",
            p_value(m.p_adjusted),
        )
    test = comparison.mcnemar
    account = (
        f"{comparison.rows} rows; right in {comparison.first} alone: {test.only_first}, "
        f"in {comparison.second} alone: {test.only_second}; McNemar p {equals(test.p_value)}"
    )
    which = f"first: {comparison.first}\nsecond: {comparison.second}"
    return Group(
        *([] if named else [Text(which)]),
        table,
        Text(account),
        *(Text(line, style="yellow") for line in comparison.left_out()),
    )
