from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sm_launch.report.charts import (
    Series,
    bar_chart,
    confusion_chart,
    histogram,
    line_chart,
)
from sm_launch.report.html import Markup, el, sentence, table
from sm_launch.report.names import fitting, width
from sm_launch.report.numbers import (
    axis_labels,
    decimal,
    equals,
    nice_ticks,
    number,
    p_value,
    short,
)


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
    ("value", "text"),
    [(0, "0"), (1200, "1,200"), (0.25, "0.25"), (2e-5, "2e-5"), (3e7, "3e7"), (2.5e-5, "2.5e-5")],
)
def test_axis_numbers_are_short(value, text):
    assert number(value) == text


def test_points_that_are_not_finite_are_gaps_and_counted():
    points = [(1, 2.0), (2, 2.5), (3, math.nan), (4, 1.0), (5, 1.5)]
    chart = line_chart([Series("loss", points)], x_label="step", y_label="loss")
    assert "nan" not in chart
    assert chart.count("<circle") == 4
    assert chart.count("<polyline") == 2
    assert "1 value(s) are NaN or infinite" in chart
    none = line_chart([Series("loss", [(1, math.nan)])], x_label="step", y_label="loss")
    assert "All 1 values are NaN" in none


def test_what_is_not_drawn_is_named_and_what_coincides_is_one_line():
    lines = [Series(str(i), [(0, i), (1, i + 1)]) for i in range(6)]
    chart = line_chart([*lines, Series("again", lines[0].points)], x_label="x", y_label="y")
    assert "Not drawn: 4, 5." in chart
    assert "0 = again" in chart
    assert "Not drawn: 5 more." in bar_chart({str(i): 1.0 for i in range(30)}, unit="rows")


def test_a_share_has_no_axis_above_1_and_a_count_no_fractions():
    perfect = line_chart([Series("f1", [(0, 1.0), (1, 1.0)])], x_label="x", y_label="y")
    assert ">1<" in perfect and ">1.05<" not in perfect
    assert nice_ticks(0, 1, whole=True) == [0, 1]
    assert nice_ticks(0, 3, whole=True) == [0, 1, 2, 3]


@example(0.001953125)
@given(st.floats(-1e6, 1e6, allow_nan=False))
def test_three_digits_are_right(value: float) -> None:
    assert float(short(value).replace(",", "")) == pytest.approx(value, rel=0.006, abs=1e-12)


def test_marks_that_look_alike_are_one():
    chart = histogram([5.0, 5.0, 5.0], x_label="ms", marks={"p50": 5.0, "p99": 5.001})
    assert "p50, p99 5<" in chart


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


ENDS = st.floats(-1e9, 1e9, allow_nan=False).map(lambda value: float(f"{value:.9g}"))


@pytest.mark.slow
@given(low=ENDS, width=st.floats(1e-9, 1e9), wanted=st.integers(3, 7))
def test_labels_of_an_axis_are_distinct_and_right(low: float, width: float, wanted: int) -> None:
    """Of any range that doubles can tell from a point."""
    high = low + max(width, abs(low) * 1e-9)
    ticks = nice_ticks(low, high, wanted)
    labels = axis_labels(ticks)
    step = ticks[1] - ticks[0]
    assert ticks[0] <= low + step * 1e-6 and ticks[-1] >= high - step * 1e-6
    assert 2 <= len(ticks) <= 3 * wanted
    assert len(set(labels)) == len(labels) == len(ticks)
    for label, tick in zip(labels, ticks, strict=True):
        assert float(label.replace(",", "")) == pytest.approx(tick, abs=step * 1e-3)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.86810, 0.86812, ["0.8681", "0.868105", "0.86811", "0.868115", "0.86812"]),
        (0, 1e-4, ["0", "2.5e-5", "5e-5", "7.5e-5", "1e-4"]),
        (0, 5e6, ["0", "2e6", "4e6", "6e6"]),
        (-0.02, 0.02, ["-0.02", "-0.01", "0", "0.01", "0.02"]),
    ],
)
def test_labels_that_were_wrong_once(low: float, high: float, labels: list[str]) -> None:
    assert axis_labels(nice_ticks(low, high)) == labels


@example(0.001953125)
@given(st.floats(-1e6, 1e6, allow_nan=False))
def test_a_column_never_shows_nothing_but_zeros(value: float) -> None:
    shown = decimal(value)
    assert (float(shown) == 0) == (value == 0)
    assert float(shown) == pytest.approx(value, rel=0.06, abs=5e-5)
    assert number(value) == "0" or float(number(value).replace(",", "")) != 0


@given(st.floats(0, 1))
def test_no_p_value_is_zero(p: float) -> None:
    assert p_value(p).startswith("< 0.0001") == (p < 0.0001)
    assert "0.0000" not in p_value(p)
    assert equals(p) in {f"= {p_value(p)}", p_value(p)}


def test_a_limit_is_drawn_or_named_above() -> None:
    line = [Series("p99", [(0, 10.0), (1, 20.0)])]
    near = line_chart(line, x_label="x", y_label="ms", y_range=(0, 20), limits={"p99": 30})
    far = line_chart(line, x_label="x", y_label="ms", y_range=(0, 20), limits={"p99": 5000})
    assert near.count('class="mark"') == 1 and ">limit of p99: 30<" in near
    assert far.count('class="mark"') == 0 and "↑ limit of p99: 5,000" in far


@given(st.lists(st.text(min_size=1, max_size=40), unique=True), st.integers(4, 30))
def test_names_fit(names: list[str], columns: int) -> None:
    assert all(width(shown) <= max(columns, 3) for shown in fitting(names, columns))


def test_names_that_begin_alike_are_told_apart_by_their_ends() -> None:
    names = [f"customer-service/{end}" for end in ("access", "app is slow", "billing")]
    assert fitting([*names, "short"], 15) == ["…access", "…app is slow", "…billing", "short"]
    assert fitting(["お問い合わせの種類"], 9) == ["お問い合…"]


def test_a_table_becomes_a_list_on_a_phone_where_it_is_too_wide() -> None:
    assert "wide" not in table(["Metric", "Value", "From", "To"], [["f1_macro", *["0.9275"] * 3]])
    assert "wide" in table(["File", "Rows", "sha256"], [["a/very-long-name.jsonl", "9", "5a" * 16]])


def test_right_to_left_names_keep_their_counts() -> None:
    assert sentence("'سلبي' 10, 'x' 2") == "'\u2068سلبي\u2069' 10, 'x' 2"
