"""Results as a notebook's cell shows them: the terminal's account and one chart, on one screen."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from sm_launch.evaluation.comparison import Comparison
from sm_launch.evaluation.report.intervals import interval_chart, scaled
from sm_launch.evaluation.result import ClassificationMetrics, EvaluationResult
from sm_launch.evaluation.scales import UNBOUNDED
from sm_launch.evaluation.summary import render_comparison, render_summary
from sm_launch.notebook import rendered
from sm_launch.report.charts import confusion_chart
from sm_launch.report.html import Markup, image

_MOST_CLASSES = 12
"""Of a confusion matrix that can still be read in a cell."""


@dataclass(frozen=True, repr=False)
class ResultCell(EvaluationResult):
    """A result that shows itself: the metrics with their intervals, and one of both drawn."""

    def _repr_html_(self) -> str:
        return rendered(render_summary(self)) + _image(_drawn(self))


@dataclass(frozen=True, repr=False)
class ComparisonCell(Comparison):
    """A comparison that shows itself: both models' metrics, and their differences drawn."""

    def _repr_html_(self) -> str:
        bars = [
            scaled(m.metric, m.difference, m.interval.low, m.interval.high)
            for m in self.metrics
            if m.metric not in UNBOUNDED
        ]
        chart = interval_chart(bars, zero=True) if bars else None
        return rendered(render_comparison(self)) + _image(chart)


def result_cell(result: EvaluationResult) -> EvaluationResult:
    """The same result, as a notebook shows it."""
    return ResultCell(**_parts(result))


def comparison_cell(comparison: Comparison) -> Comparison:
    """The same comparison, as a notebook shows it."""
    return ComparisonCell(**_parts(comparison))


def _parts(value: EvaluationResult | Comparison) -> dict[str, Any]:
    return {each.name: getattr(value, each.name) for each in fields(value)}


def _drawn(result: EvaluationResult) -> Markup | None:
    metrics = result.metrics
    if isinstance(metrics, ClassificationMetrics) and len(metrics.labels) <= _MOST_CLASSES:
        return confusion_chart(metrics.labels, metrics.confusion)
    summary = metrics.summary if metrics is not None else {}
    bars = [
        scaled(name, summary[name], interval.low, interval.high)
        for name, interval in result.intervals.items()
        if name in summary and name not in UNBOUNDED
    ]
    return interval_chart(bars) if bars else None


def _image(chart: Markup | None) -> str:
    return "" if chart is None else image(chart)
