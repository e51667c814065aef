"""What an evaluation found: plain frozen records, and the JSON document made from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

SCHEMA_VERSION = 1
"""Version of the layout of `evaluation.json`; raised when a key changes its meaning."""


@dataclass(frozen=True)
class RowFailure:
    """A row that got no prediction; `index` counts the rows of the evaluated file from 0."""

    index: int
    reason: str
    status: int | None = None


@dataclass(frozen=True)
class Prediction:
    """One row and what the endpoint said about it.

    `scores` maps label to probability; it is empty where the endpoint tells only the label.
    `references` holds all accepted answers where there may be several, `values` what was measured
    on this row alone (exact_match, f1, …), `slices` the row's columns that metrics are split by,
    and `note` what a judge wrote.
    """

    index: int
    text: str
    gold: str
    predicted: str
    scores: Mapping[str, float] = field(default_factory=dict)
    references: tuple[str, ...] = ()
    values: Mapping[str, float] = field(default_factory=dict)
    slices: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    vectors: tuple[str, ...] = ()
    """Of an embedding's texts, packed, until they have been compared with each other."""

    @property
    def correct(self) -> bool:
        if "exact_match" in self.values:
            return self.values["exact_match"] == 1
        return self.gold == self.predicted

    @property
    def confidence(self) -> float | None:
        """The score of the predicted label, if the endpoint told scores."""
        return self.scores.get(self.predicted)


@dataclass(frozen=True)
class ClassMetrics:
    """Quality for one label; `roc_auc` (one against the rest) is None where it is undefined."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int
    predicted: int
    roc_auc: float | None = None

    @property
    def rates(self) -> tuple[float | None, float | None, float | None]:
        """Precision, recall and F1; None where there is no row that they could be of."""
        if self.support:
            return self.precision, self.recall, self.f1
        return (self.precision, None, self.f1) if self.predicted else (None, None, None)


@dataclass(frozen=True)
class ClassificationMetrics:
    """Quality over all rows that got a prediction.

    `summary` maps metric name (accuracy, f1_macro, …) to value. `confusion[i][j]` counts the rows
    whose label is `labels[i]` and that were predicted as `labels[j]`.
    """

    labels: tuple[str, ...]
    summary: dict[str, float]
    per_class: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class TextMetrics:
    """Quality of answers that are texts or spans; `per_class` holds entity types, if any."""

    summary: dict[str, float]
    per_class: tuple[ClassMetrics, ...] = ()


Metrics = ClassificationMetrics | TextMetrics


@dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval."""

    low: float
    high: float


@dataclass(frozen=True)
class CalibrationBin:
    """Predictions of like confidence: how sure the model was, and how often it was right."""

    low: float
    high: float
    rows: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Slice:
    """Quality on the rows that have `value` in `column`."""

    column: str
    value: str
    rows: int
    metrics: dict[str, float]
    interval: Interval | None = None
    """Of the task's main metric."""


@dataclass(frozen=True)
class LatencyStats:
    """Request latencies in milliseconds, as the client saw them: network, retries and the pauses
    between them included. `retries` counts the repeated attempts among them."""

    count: int
    mean_ms: float
    min_ms: float
    max_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    samples_ms: tuple[float, ...] = ()
    retries: int = 0


@dataclass(frozen=True)
class Throughput:
    """The main pass: batched, concurrent requests over all rows.

    `wall_s` is from the first request's start to the last answer's end; answers are measured
    afterwards. `rows_per_s` counts rows that got an answer; `request_latency` is per answered
    request under that load.
    """

    batch_size: int
    concurrency: int
    wall_s: float
    rows_per_s: float
    requests_per_s: float
    requests: int
    request_latency: LatencyStats


@dataclass(frozen=True)
class LoadStep:
    """So many clients at a time, each with one row a request.

    `requests_per_s` counts those that were answered; latencies are theirs, in milliseconds.
    """

    concurrency: int
    requests: int
    failed_share: float
    requests_per_s: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Million:
    """What a million requests cost in US dollars, at a measured rate.

    `instances` is how many of the type are paid; `measured` whether the rate was measured on them,
    rather than on another machine.
    """

    type: str
    instances: int
    dollars_an_hour: float
    dollars: float
    measured: bool


@dataclass(frozen=True)
class LoadTest:
    """Throughput at a limit of the 99th percentile: every number of clients that was tried.

    `costs` are those of `best`, by instance type; `prices` says of which region and day they are.
    """

    p99_ms: float
    steps: tuple[LoadStep, ...]
    costs: tuple[Million, ...] = ()
    prices: str = ""

    @property
    def best(self) -> LoadStep | None:
        """Most requests a second within the limit, by the fewest clients; None: none was."""
        return max(self.within, key=lambda step: step.requests_per_s, default=None)

    @property
    def within(self) -> list[LoadStep]:
        """The steps that kept the limit, and all but a hundredth of their requests."""
        return [
            step
            for step in self.steps
            if step.requests and step.p99_ms <= self.p99_ms and step.failed_share <= MOST_FAILED
        ]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        document = asdict(self)
        return document | {"best": asdict(self.best) if self.best else None}


MOST_FAILED = 0.01
"""Share of requests that may fail under load; beyond it the endpoint does not bear that load."""


@dataclass(frozen=True)
class RunInfo:
    """Where the numbers come from, for the reader of a report; empty values are left out."""

    endpoint: str = ""
    training_job: str = ""
    artefact: str = ""
    """URI of the model that answered."""
    target: str = ""
    model: str = ""
    data: str = ""
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class EvaluationResult:
    """Everything an evaluation found. `latency` is of single rows, one request at a time."""

    rows_total: int
    predictions: tuple[Prediction, ...]
    failures: tuple[RowFailure, ...]
    metrics: Metrics | None
    latency: LatencyStats | None
    throughput: Throughput | None
    retries: int
    started_at: str
    duration_s: float
    warnings: tuple[str, ...] = ()
    info: RunInfo = field(default_factory=RunInfo)
    task: str = "text-classification"
    main_metric: str = "f1_macro"
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    calibration: tuple[CalibrationBin, ...] = ()
    slices: tuple[Slice, ...] = ()
    training: Mapping[str, float] = field(default_factory=dict)
    """What training measured on the same test rows, where it did."""
    load: LoadTest | None = None
    """Throughput at a limit of latency, where it was asked for."""

    @property
    def failed_share(self) -> float:
        """Failed rows as a share of all rows, 0 to 1."""
        return len(self.failures) / self.rows_total if self.rows_total else 0.0

    def __repr__(self) -> str:
        summary = self.metrics.summary if self.metrics is not None else {}
        main = f", {self.main_metric}={summary.get(self.main_metric, math.nan):.4f}"
        rows = f"{len(self.predictions)} of {self.rows_total} rows"
        return f"<EvaluationResult {self.task}: {rows}{main if summary else ''}>"

    def to_dict(self) -> dict[str, Any]:
        """The document written to `evaluation.json`."""
        return {
            "schema_version": SCHEMA_VERSION,
            "task": self.task,
            "started_at": self.started_at,
            "duration_s": round(self.duration_s, 3),
            "rows": {
                "total": self.rows_total,
                "evaluated": len(self.predictions),
                "failed": len(self.failures),
                "failed_share": self.failed_share,
            },
            **_metrics_dict(self.metrics),
            "main_metric": self.main_metric,
            "training": dict(self.training),
            "confidence_intervals": {
                name: [interval.low, interval.high] for name, interval in self.intervals.items()
            },
            "calibration": [asdict(bucket) for bucket in self.calibration],
            "slices": [asdict(each) for each in self.slices],
            "latency_ms": _latency_dict(self.latency),
            "throughput": _throughput_dict(self.throughput),
            "load": self.load.as_dict() if self.load else None,
            "retries": self.retries,
            "warnings": list(self.warnings),
            "failures": [asdict(failure) for failure in self.failures],
            "run": asdict(self.info),
        }


def _metrics_dict(metrics: Metrics | None) -> dict[str, Any]:
    if metrics is None:
        return {"labels": [], "metrics": {}, "per_class": {}, "confusion_matrix": []}
    labels, confusion = (
        (metrics.labels, metrics.confusion)
        if isinstance(metrics, ClassificationMetrics)
        else ((), ())
    )
    return {
        "labels": list(labels),
        "metrics": dict(metrics.summary),
        "per_class": {
            c.label: {k: v for k, v in asdict(c).items() if k != "label"} for c in metrics.per_class
        },
        "confusion_matrix": [list(row) for row in confusion],
    }


def _latency_dict(stats: LatencyStats | None) -> dict[str, Any] | None:
    if stats is None:
        return None
    names = ("count", "mean_ms", "min_ms", "max_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms")
    values = {name.removesuffix("_ms"): round(getattr(stats, name), 3) for name in names}
    samples = [round(sample, 3) for sample in stats.samples_ms]
    return {**values, "retries": stats.retries, "samples": samples}


def _throughput_dict(throughput: Throughput | None) -> dict[str, Any] | None:
    if throughput is None:
        return None
    under_load = _latency_dict(throughput.request_latency) or {}
    under_load.pop("samples", None)  # one number a request: too many, and the stats say it
    return {
        "batch_size": throughput.batch_size,
        "concurrency": throughput.concurrency,
        "wall_s": round(throughput.wall_s, 3),
        "rows_per_s": round(throughput.rows_per_s, 2),
        "requests_per_s": round(throughput.requests_per_s, 2),
        "requests": throughput.requests,
        "request_latency_ms": under_load,
    }
