"""Charts as inline SVG. Colours come from the page's style, so that they suit light and dark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sm_launch.report.html import Markup, el, join
from sm_launch.report.numbers import axis_labels, nice_ticks, number

WIDTH, HEIGHT = 480.0, 260.0
LEFT, RIGHT, TOP, BOTTOM = 54.0, 12.0, 14.0, 40.0
DASHES = (None, "7 4", "2 4", "9 3 2 3")
"""Series differ by dash as well as by colour, for print and for colour-blind readers."""
_LIMIT_SHOWN = 4.0
"""A limit that is so many times above the data would flatten it to a line at the bottom."""
_DIGIT = 6.6
"""Width of an axis label's character."""


@dataclass(frozen=True)
class Series:
    """A named line of (x, y) points."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Scale:
    """Maps data values onto the drawing."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def line_chart(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    y_range: tuple[float, float] | None = None,
    x_range: tuple[float, float] | None = None,
    diagonal: bool = False,
    limits: Mapping[str, float] | None = None,
) -> Markup:
    """Lines over a common x axis, at most four, with a legend where there are two or more.

    Args:
        series: lines; points that are not finite are left out.
        x_label: what x is, with its unit.
        y_label: what y is, with its unit.
        y_range: limits of the y axis; by default those of the data.
        x_range: limits of the x axis, likewise.
        diagonal: also draw y = x, for calibration.
        limits: named values of y, drawn across as dashed lines; one far above the data is named at
            the top instead.
    """
    lines = [
        Series(s.name, [(x, y) for x, y in s.points if math.isfinite(x) and math.isfinite(y)])
        for s in series[: len(DASHES)]
    ]
    lines = [s for s in lines if s.points]
    if not lines:
        return el("p", "No values were logged.", class_="note")
    xs = [x for s in lines for x, _ in s.points]
    ys = [y for s in lines for _, y in s.points]
    bottom, top = y_range or (min(ys), max(ys))
    drawn_limits = limits or {}
    within = [value for value in drawn_limits.values() if value <= _LIMIT_SHOWN * max(top, 0)]
    top = max([top, *within])
    x, y, axes = _axes(x_range or xs, (bottom, top), x_label, y_label)
    drawn = [_line(s, i, x, y) for i, s in enumerate(lines)]
    ideal = None
    if diagonal:
        ideal = el("line", x1=x(0), y1=y(0), x2=x(1), y2=y(1), class_="mark")
    summary = "; ".join(
        f"{s.name}: from {number(s.points[0][1])} to {number(s.points[-1][1])}" for s in lines
    )
    summary += "".join(f"; limit of {name} {number(v)}" for name, v in drawn_limits.items())
    drawing = _svg(
        f"{y_label} over {x_label}. {summary}", axes, ideal, drawn, _limits(drawn_limits, y)
    )
    return join(_legend([s.name for s in lines]) if len(lines) > 1 else None, drawing)


def histogram(
    values: Sequence[float],
    *,
    x_label: str,
    y_label: str = "requests",
    bins: int = 24,
    marks: Mapping[str, float] | None = None,
) -> Markup:
    """How often values fall into equal bins; `marks` draws named values as dashed lines."""
    finite = sorted(v for v in values if math.isfinite(v))
    if not finite:
        return el("p", "No values were measured.", class_="note")
    low, high = finite[0], finite[-1]
    width = (high - low) / bins or max(abs(low) * 0.1, 1e-9)
    counts = [0] * bins
    for value in finite:
        counts[min(int((value - low) / width), bins - 1)] += 1
    x, y, axes = _axes([low, low + width * bins], (0, max(counts)), x_label, y_label)
    bars = [
        el(
            "rect",
            x=x(low + i * width) + 0.5,
            y=y(count),
            width=max(x(low + (i + 1) * width) - x(low + i * width) - 1, 1.0),
            height=y(0) - y(count),
            class_="bar c1",
        )
        for i, count in enumerate(counts)
        if count
    ]
    named = marks or {}
    summary = ", ".join(f"{name} {number(value)}" for name, value in named.items())
    text = f"Histogram of {len(finite)} values of {x_label}. {summary}"
    return _svg(text, axes, bars, _marks(named, x))


def bar_chart(values: Mapping[str, float], *, unit: str, shown: int = 25) -> Markup:
    """Horizontal bars in the order given, each with its value; at most `shown` of them."""
    items = list(values.items())[:shown]
    if not items:
        return el("p", "There are no values.", class_="note")
    top = max([value for _, value in items] + [1e-12])
    row, left = 24.0, 150.0
    room = WIDTH - left - 70
    bars = []
    for i, (name, value) in enumerate(items):
        y = i * row + 4
        length = max(room * value / top, 1.0)
        bars += [
            el("text", _cut(name, 22), x=left - 8, y=y + 13, text_anchor="end", class_="strong"),
            el("rect", x=left, y=y, width=length, height=row - 8, rx=2, class_="bar c1"),
            el("text", number(value), x=left + length + 6, y=y + 12.5),
        ]
    text = f"{unit}: " + ", ".join(f"{name} {number(value)}" for name, value in items)
    return _svg(text, bars, height=len(items) * row + 4)


def confusion_chart(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Markup:
    """A matrix of true (rows) and predicted (columns) labels, shaded by the share of its row.

    Right answers and mistakes have different hues. Numbers are left out above 12 labels, and names
    above 40, where they could not be read.
    """
    n = len(labels)
    left, top = 112.0, 34.0
    cell = min((WIDTH - left - 8) / n, 74.0)
    names = n <= 40
    parts: list[Markup] = []
    for i, row in enumerate(counts):
        total = sum(row) or 1
        for j, count in enumerate(row):
            parts += _cell(left + j * cell, top + i * cell, cell, count, count / total, i == j, n)
        if names:
            parts += _names(labels[i], i, left, top, cell, n)
    bottom = top + n * cell
    middle = left + n * cell / 2
    parts += [
        el("text", "predicted", x=middle, y=12, text_anchor="middle"),
        el(
            "text",
            "true",
            transform=f"translate(10 {top + n * cell / 2:.1f}) rotate(-90)",
            text_anchor="middle",
        ),
    ]
    right = sum(counts[i][i] for i in range(n))
    total = sum(map(sum, counts))
    return _svg(
        f"Confusion matrix of {n} labels: {right} of {total} rows are on the diagonal",
        parts,
        height=bottom + 8,
    )


def _cell(
    x: float, y: float, size: float, count: int, share: float, right: bool, labels: int
) -> list[Markup]:
    hue = "--heat" if right else "--miss"
    style = f"fill: rgba(var({hue}), {0.06 + 0.62 * share if count else 0:.3f})"
    parts = [el("rect", x=x, y=y, width=size, height=size, class_="cell", style=style)]
    if labels <= 12:
        middle = x + size / 2
        y_text = y + size / 2 + (0 if size > 40 else 4)
        parts.append(el("text", str(count), x=middle, y=y_text, **_STRONG))
        if size > 40:
            parts.append(el("text", f"{share:.0%}", x=middle, y=y_text + 15, **_STRONG))
    return parts


_STRONG = {"class_": "strong", "text_anchor": "middle"}


def _names(label: str, i: int, left: float, top: float, cell: float, n: int) -> list[Markup]:
    size = f"font-size: {min(12.0, max(cell * 0.8, 5)):.1f}px" if n > 8 else None
    across = left + (i + 0.5) * cell
    columns = max(int(cell / 6.5), 1)
    row_name = el(
        "text",
        _cut(label, 15),
        x=left - 6,
        y=top + (i + 0.5) * cell + 4,
        text_anchor="end",
        style=size,
    )
    if n > 12:  # names above columns this narrow would be single letters
        return [row_name]
    return [
        row_name,
        el("text", _cut(label, columns), x=across, y=top - 6, text_anchor="middle", style=size),
    ]


def _axes(
    xs: Sequence[float], y_range: tuple[float, float], x_label: str, y_label: str
) -> tuple[Scale, Scale, Markup]:
    x_ticks = nice_ticks(min(xs), max(xs), 6)
    y_ticks = nice_ticks(*y_range)
    low, high = min(xs), max(xs)
    if not high > low:
        low, high = x_ticks[0], x_ticks[-1]
    y_labels = axis_labels(y_ticks)
    left = max(LEFT, 26 + _DIGIT * max(map(len, y_labels)))
    x = Scale(low, high, left, WIDTH - RIGHT)
    y = Scale(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP)
    parts = []
    for tick, label in zip(y_ticks, y_labels, strict=True):
        parts += [
            el("line", x1=left, x2=WIDTH - RIGHT, y1=y(tick), y2=y(tick), class_="grid"),
            el("text", label, x=left - 7, y=y(tick) + 4, text_anchor="end"),
        ]
    inside = [tick for tick in x_ticks if low <= tick <= high]
    base = HEIGHT - BOTTOM
    for tick, label in zip(inside, axis_labels(inside), strict=True):
        half = _DIGIT * len(label) / 2
        at = min(max(x(tick), half), WIDTH - half)  # the last one stays within the drawing
        parts += [
            el("line", x1=x(tick), x2=x(tick), y1=base, y2=base + 4, class_="axis"),
            el("text", label, x=at, y=base + 17, text_anchor="middle"),
        ]
    middle = (left + WIDTH - RIGHT) / 2
    upright = f"translate(12 {(TOP + base) / 2:.1f}) rotate(-90)"
    parts += [
        el("line", x1=left, x2=WIDTH - RIGHT, y1=base, y2=base, class_="axis"),
        el("text", x_label, x=middle, y=HEIGHT - 6, text_anchor="middle"),
        el("text", y_label, transform=upright, text_anchor="middle"),
    ]
    return x, y, join(parts)


def _line(series: Series, i: int, x: Scale, y: Scale) -> Markup:
    style = f"c{i + 1} series"
    if len(series.points) == 1:
        (px, py) = series.points[0]
        return el("circle", cx=x(px), cy=y(py), r=4, class_=f"c{i + 1}")
    points = " ".join(f"{x(px):.1f},{y(py):.1f}" for px, py in series.points)
    dots: list[Markup] = []
    if len(series.points) <= 30:
        dots = [
            el("circle", cx=x(px), cy=y(py), r=2.5, class_=f"c{i + 1}") for px, py in series.points
        ]
    return join(el("polyline", points=points, class_=style, stroke_dasharray=DASHES[i]), dots)


def _marks(marks: Mapping[str, float], x: Scale) -> list[Markup]:
    """Dashed lines with names, on alternating heights so that near ones stay legible."""
    parts = []
    for i, (name, value) in enumerate(marks.items()):
        at = x(min(max(value, x.low), x.high))
        late = at > WIDTH * 0.8
        parts += [
            el("line", x1=at, x2=at, y1=TOP, y2=HEIGHT - BOTTOM, class_="mark"),
            el(
                "text",
                f"{name} {number(value)}",
                x=at - 4 if late else at + 4,
                y=TOP + 9 + 14 * i,
                text_anchor="end" if late else "start",
                class_="strong",
            ),
        ]
    return parts


def _limits(limits: Mapping[str, float], y: Scale) -> list[Markup]:
    """Dashed lines across, each with its name; what is above the drawing is named at its top."""
    parts = []
    for i, (name, value) in enumerate(limits.items()):
        if value > y.high:
            label, at = f"↑ limit of {name}: {number(value)}", TOP + 10 + 14 * i
        else:
            label, at = f"limit of {name}: {number(value)}", max(y(value) - 5, TOP + 10)
            parts.append(
                el("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y(value), y2=y(value), class_="mark")
            )
        parts.append(
            el("text", label, x=WIDTH - RIGHT - 3, y=at, text_anchor="end", class_="strong")
        )
    return parts


def _legend(names: Sequence[str]) -> Markup:
    def key(i: int) -> Markup:
        stroke = el("line", x1=1, x2=25, y1=5, y2=5, class_=f"c{i + 1}", stroke_dasharray=DASHES[i])
        sample = el("svg", stroke, viewBox="0 0 26 10", stroke_width=2.5, aria_hidden="true")
        return el("li", sample, names[i])

    return el("ul", (key(i) for i in range(len(names))), class_="legend")


def _svg(label: str, *children: Markup | Sequence[Markup] | None, height: float = HEIGHT) -> Markup:
    box = f"0 0 {WIDTH:.0f} {height:.0f}"
    return el("svg", *children, viewBox=box, role="img", aria_label=label)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: max(length - 1, 1)] + "…"
