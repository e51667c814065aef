"""Results as a notebook's cell shows them: the terminal's account and one chart, on one screen."""

from __future__ import annotations

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


def evaluation_html(result: EvaluationResult) -> str:
    """The metrics with their intervals, and the confusions or the intervals drawn."""
    return rendered(render_summary(result)) + _image(_drawn(result))


def comparison_html(comparison: Comparison) -> str:
    """Both models' metrics, and the differences with their intervals drawn."""
    bars = [
        scaled(m.metric, m.difference, m.interval.low, m.interval.high)
        for m in comparison.metrics
        if m.metric not in UNBOUNDED
    ]
    chart = interval_chart(bars, zero=True) if bars else None
    return rendered(render_comparison(comparison)) + _image(chart)


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
