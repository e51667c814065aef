"""The evaluation's report: one HTML file that can be mailed, printed and kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sm_launch.evaluation.gates import GateResult, gate_dict
from sm_launch.evaluation.report.load import load_section
from sm_launch.evaluation.report.quality import (
    optional,
    quality_sections,
    shorten,
    tiles,
    with_interval,
    worst_answers,
)
from sm_launch.evaluation.report.sources import (
    curve,
    loss_curves,
    quality_curves,
    read_manifest,
    read_training_log,
)
from sm_launch.evaluation.result import EvaluationResult, LatencyStats, Prediction
from sm_launch.evaluation.store import write_predictions
from sm_launch.evaluation.tasks import kind_of
from sm_launch.redaction import redact_value
from sm_launch.report import charts
from sm_launch.report.html import Markup, el, figure, join, page, section, sentence, table

LABELS_SHOWN = 25
ERRORS_SHOWN = 20
FAILURES_SHOWN = 20


@dataclass(frozen=True)
class ReportPaths:
    """What `write_evaluation` wrote."""

    evaluation: Path
    predictions: Path
    report: Path


def write_evaluation(
    result: EvaluationResult,
    directory: Path,
    *,
    gates: Sequence[GateResult] = (),
    training_log: Path | None = None,
    manifest: Path | None = None,
) -> ReportPaths:
    """Writes evaluation.json, predictions.jsonl and report.html into `directory`.

    Args:
        result: what to report.
        directory: made where missing; earlier files of these names are replaced.
        gates: shown as passed or failed.
        training_log: training_log.jsonl, for the curves; left out where it does not exist.
        manifest: manifest.json of the prepared data; left out where it does not exist.
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = ReportPaths(
        directory / "evaluation.json", directory / "predictions.jsonl", directory / "report.html"
    )
    document = result.to_dict()
    document["gates"] = [gate_dict(gate) for gate in gates]
    text = json.dumps(redact_value(document), indent=2, ensure_ascii=False)
    paths.evaluation.write_text(text + "\n", encoding="utf-8")
    write_predictions(paths.predictions, result.predictions)
    events = read_training_log(training_log) if training_log and training_log.is_file() else []
    data = read_manifest(manifest) if manifest and manifest.is_file() else {}
    paths.report.write_text(render_report(result, gates, events, data), encoding="utf-8")
    return paths


def render_report(
    result: EvaluationResult,
    gates: Sequence[GateResult] = (),
    training_events: Sequence[Mapping[str, Any]] = (),
    manifest: Mapping[str, Any] | None = None,
) -> str:
    """The report as an HTML document."""
    subject = _subject(result)
    return page(
        f"Evaluation of {subject}",
        _header(result, subject, gates),
        _tiles(result),
        quality_sections(result),
        _training(training_events),
        _speed(result),
        load_section(result.load),
        _data(manifest or {}),
        _errors(result),
        _failures(result),
        _origin(result),
    )


def _subject(result: EvaluationResult) -> str:
    """What was measured, as a title: of a path or URI the job's name, or what it ends with."""
    info = result.info
    if "/" not in info.endpoint:
        return info.endpoint or info.model or "model"
    return info.training_job or info.endpoint.rstrip("/").rpartition("/")[2]


def _header(result: EvaluationResult, subject: str, gates: Sequence[GateResult]) -> Markup:
    pills = [
        el("li", sentence(str(gate)), class_="pass" if gate.passed else "fail") for gate in gates
    ]
    return el(
        "header",
        el("h1", f"Evaluation of {subject}"),
        el(
            "p",
            f"{_moment(result.started_at)} · {_rows(result.rows_total)}"
            f" · took {result.duration_s:.1f} s",
            class_="sub",
        ),
        el("ul", pills, class_="pills") if pills else None,
        [el("p", sentence(f"Note: {warning}."), class_="warning") for warning in result.warnings],
    )


def _rows(count: int) -> str:
    return "1 held-out row" if count == 1 else f"{count:,} held-out rows"


def _tiles(result: EvaluationResult) -> Markup:
    shown = [_tile(title, with_interval(result, name), more) for name, title, more in tiles(result)]
    if result.latency is not None:
        spread = f"median {result.latency.p50_ms:.1f} ms"
        shown.append(_tile("Latency p95", f"{result.latency.p95_ms:.1f}", spread, "ms"))
    if result.throughput is not None:
        load = result.throughput
        more = f"batches of {load.batch_size}, {load.concurrency} at a time"
        shown.append(_tile("Throughput", f"{load.rows_per_s:,.0f}", more, "rows/s"))
    failed = f"{result.failed_share:.2%} of {result.rows_total:,}"
    shown.append(_tile("Failed rows", f"{len(result.failures):,}", failed))
    return el("div", shown, class_="tiles")


def _tile(name: str, value: str, more: str, unit: str = "") -> Markup:
    number, _, spread = value.partition(" ")
    return el(
        "div",
        el("span", name, class_="name"),
        el("span", number, el("small", f" {unit or spread}") if unit or spread else None,
           class_="value"),
        el("span", more, class_="more"),
        class_="tile",
    )  # fmt: skip


def _training(events: Sequence[Mapping[str, Any]]) -> Markup | None:
    if not events:
        return None
    graphics = []
    losses = [series for series in loss_curves(events) if series.points]
    if losses:
        graphics.append(
            figure("Loss", charts.line_chart(losses, x_label="optimizer step", y_label="loss"))
        )
    quality = [series for series in quality_curves(events) if series.points]
    if quality:
        chart = charts.line_chart(quality, x_label="optimizer step", y_label="validation metric")
        graphics.append(figure("Validation metrics", chart))
    rate = curve(events, "learning_rate", "learning rate")
    if rate.points:
        chart = charts.line_chart([rate], x_label="optimizer step", y_label="learning rate")
        graphics.append(figure("Learning rate", chart))
    if not graphics:
        return None
    return section("Training", el("div", graphics, class_="charts"))


def _speed(result: EvaluationResult) -> Markup | None:
    if result.latency is None and result.throughput is None:
        return None
    rows: list[list[str]] = []
    graphic = None
    if result.latency is not None:
        stats = result.latency
        rows.append(["one row, one at a time", *_latency_cells(stats)])
        marks = {"p50": stats.p50_ms, "p95": stats.p95_ms, "p99": stats.p99_ms}
        chart = charts.histogram(stats.samples_ms, x_label="milliseconds", marks=marks)
        graphic = figure("Latency of single rows", chart)
    if result.throughput is not None:
        load = result.throughput
        setting = f"batches of {load.batch_size}, {load.concurrency} at a time"
        rows.append([setting, *_latency_cells(load.request_latency)])
    head = ["Requests", "Count", "Mean", "p50", "p90", "p95", "p99", "Max", "Repeated"]
    return section(
        "Latency and throughput",
        table(
            head, rows, numeric=range(1, 9), caption="Milliseconds per request, as the client saw"
        ),
        _throughput_text(result),
        el("div", graphic, class_="charts") if graphic else None,
        note="Seen from the evaluating machine: its network and load, repeated attempts and the "
        "pauses between them included.",
    )


def _latency_cells(stats: LatencyStats) -> list[str]:
    values = (stats.mean_ms, stats.p50_ms, stats.p90_ms, stats.p95_ms, stats.p99_ms, stats.max_ms)
    return [f"{stats.count:,}", *(f"{value:,.1f}" for value in values), f"{stats.retries:,}"]


def _throughput_text(result: EvaluationResult) -> Markup | None:
    if result.throughput is None:
        return None
    load = result.throughput
    again = f" {result.retries} requests had to be repeated." if result.retries else ""
    return el(
        "p",
        f"{load.rows_per_s:,.1f} rows/s and {load.requests_per_s:,.1f} requests/s over "
        f"{load.wall_s:.1f} s.{again}",
    )


def _data(manifest: Mapping[str, Any]) -> Markup | None:
    splits = manifest.get("splits")
    if not isinstance(splits, Mapping) or not splits:
        return None
    rows = []
    for name, split in splits.items():
        characters = split.get("characters") or {}
        rows.append(
            [
                str(name),
                f"{split.get('rows', 0):,}",
                *(f"{characters[k]:,.0f}" if k in characters else "–" for k in ("p50", "p99")),
                str(split.get("sha256", ""))[:12],
            ]
        )
    head = ["Split", "Rows", "Characters p50", "p99", "sha256"]
    total = manifest.get("counts") or {}
    rejected = manifest.get("rejected") or {}
    reasons = [[str(reason), f"{count:,}"] for reason, count in rejected.items()]
    read, kept = (total.get(key, 0) for key in ("read", "kept"))
    return section(
        "Data",
        el("p", f"{read:,} raw rows, {kept:,} kept, {total.get('rejected', 0):,} rejected."),
        table(head, rows, numeric=range(1, len(head) - 1)),
        _labels(manifest.get("labels") or [], splits),
        join(el("h3", "Rejected rows"), table(["Reason", "Rows"], reasons, numeric=(1,)))
        if reasons
        else None,
    )


def _labels(labels: Sequence[Any], splits: Mapping[str, Mapping[str, Any]]) -> Markup | None:
    if not labels:
        return None
    counts = [split.get("labels") or {} for split in splits.values()]
    shown = [str(label) for label in labels[:LABELS_SHOWN]]
    rows = [[label, *(f"{of.get(label, 0):,}" for of in counts)] for label in shown]
    more = len(labels) - len(shown)
    return join(
        el("h3", "Labels"),
        table(["Label", *splits], rows, numeric=range(1, len(splits) + 1)),
        el("p", f"and {more:,} more, all of them in manifest.json") if more else None,
    )


def confident_errors(predictions: Sequence[Prediction]) -> list[Prediction]:
    """The wrong predictions, most confident first: label noise and blind spots show up here."""
    wrong = [p for p in predictions if not p.correct]
    return sorted(wrong, key=lambda p: (-(p.confidence or 0.0), p.index))


def _errors(result: EvaluationResult) -> Markup | None:
    if not result.predictions:
        return None
    if not kind_of(result.task).calibrated:
        return worst_answers(result)
    wrong = confident_errors(result.predictions)
    rows = [
        [str(p.index), shorten(p.text), p.gold, p.predicted, optional(p.confidence)]
        for p in wrong[:ERRORS_SHOWN]
    ]
    note = f"{len(wrong):,} of {len(result.predictions):,} answers are wrong"
    note += f"; the {len(rows)} most confident are shown. Some may be wrong labels in the data."
    return section(
        "Most confident errors",
        table(["Row", "Text", "True", "Predicted", "Score"], rows, numeric=(0, 4))
        if rows
        else None,
        note=note if rows else "Every answer is right.",
    )


def _failures(result: EvaluationResult) -> Markup | None:
    if not result.failures:
        return None
    rows = [
        [str(failure.index), "–" if failure.status is None else str(failure.status), failure.reason]
        for failure in result.failures[:FAILURES_SHOWN]
    ]
    more = len(result.failures) - len(rows)
    return section(
        "Failed rows",
        table(["Row", "Status", "Reason"], rows, numeric=(0, 1)),
        el("p", f"and {more:,} more, all of them listed in evaluation.json") if more else None,
        note="Rows without a prediction. They count in no metric above.",
    )


def _origin(result: EvaluationResult) -> Markup:
    info = result.info
    facts = {
        "Measured": info.endpoint,
        "Training job": info.training_job,
        "Target": info.target,
        "Model": info.model,
        "Held-out data": info.data,
        **info.versions,
    }
    pairs = [[el("dt", name), el("dd", text)] for name, text in facts.items() if text]
    command = info.command
    return section(
        "Where this comes from",
        el("dl", *pairs),
        join(el("h3", "Run it again"), el("pre", el("code", command))) if command else None,
    )


def _moment(started_at: str) -> str:
    return started_at.replace("T", " ").replace("+00:00", " UTC")
