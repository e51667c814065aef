from __future__ import annotations

import math

import pytest

from sm_launch.report.charts import (
    Series,
    bar_chart,
    confusion_chart,
    histogram,
    line_chart,
    nice_ticks,
    number,
)
from sm_launch.report.html import Markup, el


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.25, 0.5, 0.75, 1]),
        (0.81, 0.9, [0.8, 0.825, 0.85, 0.875, 0.9]),
        (0, 37, [0, 10, 20, 30, 40]),
    ],
)
def test_ticks_are_round_and_span_the_data(low, high, ticks):
    assert nice_ticks(low, high) == pytest.approx(ticks)


def test_a_constant_still_has_an_axis():
    ticks = nice_ticks(5, 5)
    assert ticks[0] < 5 < ticks[-1]
    assert nice_ticks(0, 0)[0] < 0


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (1200, "1,200"), (0.25, "0.25"), (2e-5, "2e-5"), (3e7, "3e7")]
)
def test_axis_numbers_are_short(value, text):
    assert number(value) == text


def test_points_that_are_not_finite_are_left_out():
    chart = line_chart(
        [Series("loss", [(1, 2.0), (2, math.nan), (3, 1.0)])], x_label="step", y_label="loss"
    )
    assert "nan" not in chart
    assert chart.count("<circle") == 2


def test_series_differ_by_dash_and_have_a_legend():
    lines = [Series("a", [(0, 1), (1, 2)]), Series("b", [(0, 2), (1, 1)])]
    chart = line_chart(lines, x_label="x", y_label="y")
    assert "stroke-dasharray" in chart
    assert "legend" in chart


def test_a_histogram_counts_every_value_even_equal_ones():
    chart = histogram([5.0, 5.0, 5.0], x_label="ms", marks={"p50": 5.0})
    assert chart.count('class="bar c1"') == 1
    assert "Histogram of 3 values" in chart


def test_empty_charts_say_so():
    assert "No values" in line_chart([], x_label="x", y_label="y")
    assert "No values" in histogram([], x_label="x")
    assert "no values" in bar_chart({}, unit="rows")


def test_the_confusion_chart_tells_its_content_in_words():
    chart = confusion_chart(["a", "b"], [[3, 1], [0, 2]])
    assert "5 of 6 rows are on the diagonal" in chart
    assert ">75%<" in chart


def test_plain_text_is_escaped_and_markup_is_not():
    assert el("p", "<i>", Markup("<b>x</b>"), title='"') == (
        '<p title="&quot;">&lt;i&gt;<b>x</b></p>'
    )
