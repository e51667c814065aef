"""The monitor's report: one HTML file with every metric over time, and drift."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from sm_launch.job.monitoring import Monitoring
from sm_launch.monitoring.drift import Drift
from sm_launch.monitoring.endpoint_metrics import BY_KEY, Metric
from sm_launch.monitoring.series import Points, VariantSeries
from sm_launch.report import charts
from sm_launch.report.html import Markup, el, figure, page, section, table
from sm_launch.report.numbers import short
from sm_launch.report.pairs import pair_chart

# Which metrics share a chart: its title, then the keys of its lines.
_CHARTS = (
    ("Throughput", ("throughput",)),
    ("Error rate", ("error_rate",)),
    ("Requests", ("invocations", "errors_4xx", "errors_5xx")),
    ("Model latency", ("model_p50", "model_p90", "model_p99")),
    ("Overhead latency", ("overhead_p50", "overhead_p90", "overhead_p99")),
    ("CPU, memory and disk", ("cpu", "memory", "disk")),
    ("GPU", ("gpu", "gpu_memory")),
)


_MOST_BARS = 15
_SCALES = (("days", 86_400), ("hours", 3600), ("minutes", 60), ("seconds", 1))
_LEAST_OF_A_SCALE = 3


def write_monitoring(
    endpoint: str,
    series: Sequence[VariantSeries],
    drifts: Sequence[Drift],
    problems: Sequence[str],
    path: Path,
    *,
    source: str,
    limits: Monitoring,
) -> None:
    """Write the report.

    Args:
        endpoint: its name.
        series: a series for each variant.
        drifts: comparisons with the training set; may be empty.
        problems: what is beyond the limits, in words.
        path: the HTML file; its directory is made where missing.
        source: where the metrics come from, in words.
        limits: those of `sm-launch alarms`, which are drawn in.
    """
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    drifted = [drift for drift in drifts if drift.state == "drift"]
    pills = [el("li", problem, class_="fail") for problem in problems]
    pills += [el("li", f"drift of the {drift.what}", class_="fail") for drift in drifted]
    if not pills and any(each.rows() for each in series):
        pills = [el("li", "within all limits", class_="pass")]
    header = el(
        "header",
        el("h1", f"Endpoint {endpoint}"),
        el("p", f"Metrics of {source}, {now}", class_="sub"),
        el("ul", pills, class_="pills") if pills else None,
    )
    body = [_variant(each, limits) for each in series]
    text = page(f"{endpoint}: monitoring", header, body, _drift(drifts))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _variant(series: VariantSeries, limits: Monitoring) -> Markup:
    rows = {metric.key: (metric, points) for metric, points in series.rows()}
    of_component = series.variant.startswith("component ")
    title = series.variant.capitalize() if of_component else f"Variant {series.variant}"
    if not rows:
        return section(title, el("p", "No metrics yet.", class_="note"))
    graphics = [
        figure(title, _chart([rows[key] for key in keys if key in rows], limits))
        for title, keys in _CHARTS
        if any(key in rows for key in keys)
    ]
    return section(
        title,
        el("div", graphics, class_="charts"),
        table(
            ["metric", "last", "mean", "max", "sum"],
            _rows(series),
            numeric=(1, 2, 3, 4),
        ),
    )


def _rows(series: VariantSeries) -> list[list[str]]:
    rows = []
    for metric, _ in series.rows():
        values = series.summary()[metric.key]
        numbers = [values[name] for name in ("last", "mean", "max")]
        total = short(values["sum"]) if "sum" in values else ""
        unit = f", {metric.unit}" if metric.unit else ""
        rows.append([metric.label + unit, *(short(n) for n in numbers), total])
    return rows


def _chart(rows: Sequence[tuple[Metric, Points]], limits: Monitoring) -> Markup:
    start = min(points[0][0] for _, points in rows)
    whole = max((points[-1][0] - start).total_seconds() for _, points in rows)
    # A report is of a minute as well as of a week.
    scale, seconds = next((n, s) for n, s in _SCALES if whole >= _LEAST_OF_A_SCALE * s or s == 1)
    lines = [
        charts.Series(
            metric.label,
            [((when - start).total_seconds() / seconds, value) for when, value in points],
        )
        for metric, points in rows
    ]
    top = max(value for line in lines for _, value in line.points)
    unit = rows[0][0].unit or "requests"
    return charts.line_chart(
        lines,
        x_label=f"{scale} since {start:%Y-%m-%d %H:%M} UTC",
        y_label=unit,
        y_range=(0, top or 1),
        limits=_limits([metric.key for metric, _ in rows], limits),
    )


def _limits(keys: Sequence[str], limits: Monitoring) -> dict[str, float]:
    """What an alarm is raised at, of the lines of a chart."""
    shares = [key for key in ("memory", "disk", "gpu_memory") if key in keys]
    named = {
        "error rate": limits.error_percent if "error_rate" in keys else None,
        "p99": limits.latency_p99_ms if "model_p99" in keys else None,
        " and ".join(BY_KEY[key].label for key in shares): limits.memory_percent
        if shares
        else None,
    }
    return {name: value for name, value in named.items() if value is not None}


def _drift(drifts: Sequence[Drift]) -> Markup | None:
    if not drifts:
        return None
    rows = [
        [drift.what, f"{drift.index:.3f}", f"{drift.limit:.3f}", drift.state,
         f"{drift.training_rows:,}", f"{drift.captured_rows:,}"]
        for drift in drifts
    ]  # fmt: skip
    return section(
        "Drift against the training set",
        table(
            ["what", "stability index", "limit", "state", "training rows", "captured"],
            rows,
            numeric=(1, 2, 4, 5),
        ),
        [_distributions(drift) for drift in drifts],
        note="The population stability index is 0 where both are alike; above 0.2 is usually "
        "called a major shift. The limit is raised where so few requests could differ by chance.",
    )


def _distributions(drift: Drift) -> Markup:
    """Both sides as bars, the numbers beside them; of many labels the frequent ones are drawn."""
    training, captured = drift.training, drift.captured
    frequent = sorted(training, key=lambda name: -max(training[name], captured[name]))
    drawn = set(frequent[:_MOST_BARS])
    chart = pair_chart(
        ("training set", "requests"),
        {name: share for name, share in training.items() if name in drawn},
        captured,
    )
    rows = [[name, f"{share:.1%}", f"{captured[name]:.1%}"] for name, share in training.items()]
    listing = table([drift.what, "training set", "requests"], rows, numeric=(1, 2))
    title = f"{drift.what.capitalize()}: requests against the training set"
    more = len(training) - len(drawn)
    said = [el("p", f"Not drawn: the {more:,} least frequent.", class_="note")] if more else []
    return el("div", figure(title, chart, *said), el("div", listing), class_="charts")
