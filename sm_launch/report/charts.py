"""Charts as inline SVG. Colours come from the page's style, so that they suit light and dark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sm_launch.report.html import Markup, el, join
from sm_launch.report.names import fitting
from sm_launch.report.numbers import axis_labels, nice_ticks, number, short

WIDTH, HEIGHT = 480.0, 260.0
LEFT, RIGHT, TOP, BOTTOM = 54.0, 12.0, 14.0, 40.0
DASHES = (None, "7 4", "2 4", "9 3 2 3")
"""Series differ by dash as well as by colour, for print and for colour-blind readers."""
ROWS_NAMED, COLUMNS_NAMED = 40, 12
"""Of so many labels a confusion matrix has the names, beside rows and above columns."""
_LIMIT_SHOWN = 4.0
"""A limit that is so many times above the data would flatten it to a line at the bottom."""
_DIGIT = 6.6
"""Width of an axis label's character."""
_MARK = 16.0
"""Height of the line that a mark's name takes above a chart."""
_UPRIGHT = 14
"""Where an upright label's letters stand: high ones stay within the drawing."""


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

    Lines that coincide are one line with both names. What is not drawn is said below the chart.

    Args:
        series: lines; points that are not finite are gaps.
        x_label: what x is, with its unit.
        y_label: what y is, with its unit.
        y_range: limits of the y axis; by default those of the data, and of shares (0 to 1) at most
            1.
        x_range: limits of the x axis, likewise.
        diagonal: also draw y = x, for calibration.
        limits: named values of y, drawn across as dashed lines; one far above the data is named at
            the top instead.
    """
    merged = [each for each in _merged(series) if _finite(each)]
    lines, left_out = merged[: len(DASHES)], merged[len(DASHES) :]
    gaps = sum(len(each.points) - len(_finite(each)) for each in series)
    if not lines:
        return el("p", _no_values(gaps), class_="note")
    xs = [x for each in lines for x, _ in _finite(each)]
    ys = [y for each in lines for _, y in _finite(each)]
    bottom, top = y_range or (min(ys), max(ys))
    drawn_limits = limits or {}
    within = [value for value in drawn_limits.values() if value <= _LIMIT_SHOWN * max(top, 0)]
    top = max([top, *within])
    most = 1.0 if 0 <= bottom <= top <= 1 and not drawn_limits else None
    x, y, axes = _axes(x_range or xs, (bottom, top), x_label, y_label, most=most)
    drawn = [_line(s, i, x, y) for i, s in enumerate(lines)]
    ideal = None
    if diagonal:
        ideal = el("line", x1=x(0), y1=y(0), x2=x(1), y2=y(1), class_="mark")
    summary = "; ".join(
        f"{each.name}: from {number(_finite(each)[0][1])} to {number(_finite(each)[-1][1])}"
        for each in lines
    )
    summary += "".join(f"; limit of {name} {number(v)}" for name, v in drawn_limits.items())
    drawing = _svg(
        f"{y_label} over {x_label}. {summary}", axes, ideal, drawn, _limits(drawn_limits, x, y)
    )
    legend = _legend([each.name for each in lines]) if len(merged) > 1 or len(series) > 1 else None
    return join(legend, drawing, _not_drawn(gaps, left_out))


def _finite(series: Series) -> list[tuple[float, float]]:
    return [(x, y) for x, y in series.points if math.isfinite(x) and math.isfinite(y)]


def _merged(series: Sequence[Series]) -> list[Series]:
    """Lines that coincide under all their names: one would hide the other."""
    names: dict[tuple[tuple[float, float], ...], list[str]] = {}
    for each in series:
        names.setdefault(tuple(each.points), []).append(each.name)
    return [Series(" = ".join(of), points) for points, of in names.items()]


def _no_values(gaps: int) -> str:
    return f"All {gaps:,} values are NaN or infinite." if gaps else "No values were logged."


def _not_drawn(gaps: int, left_out: Sequence[Series]) -> Markup | None:
    said = [f"{gaps:,} value(s) are NaN or infinite: gaps in the lines."] if gaps else []
    if left_out:
        said.append(f"Not drawn: {', '.join(each.name for each in left_out)}.")
    return el("p", " ".join(said), class_="note") if said else None


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
    if high - low <= abs(low) * 1e-9:  # one bar, in the middle of some room
        bins, room = 25, abs(low) / 8 or 1.0
        low, high = low - room, high + room
    width = (high - low) / bins
    counts = [0] * bins
    for value in finite:
        counts[min(int((value - low) / width), bins - 1)] += 1
    named = _named_together(marks or {})
    x, y, axes = _axes(
        [low, low + width * bins],
        (0, max(counts)),
        x_label,
        y_label,
        top=TOP + _MARK * len(named),
        whole=True,
    )
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
    summary = ", ".join(f"{name} {short(value)}" for name, value in named.items())
    text = f"Histogram of {len(finite)} values of {x_label}. {summary}"
    return _svg(text, axes, bars, _marks(named, x))


def bar_chart(values: Mapping[str, float], *, unit: str, shown: int = 25) -> Markup:
    """Horizontal bars in the order given, each with its value; of more than `shown` the count."""
    items = list(values.items())[:shown]
    if not items:
        return el("p", "There are no values.", class_="note")
    top = max([value for _, value in items] + [1e-12])
    row, left = 24.0, 150.0
    room = WIDTH - left - 70
    bars = []
    labels = fitting([name for name, _ in items], 22)
    for i, (label, (_, value)) in enumerate(zip(labels, items, strict=True)):
        y = i * row + 4
        length = max(room * value / top, 1.0)
        bars += [
            el("text", label, x=left - 8, y=y + 13, text_anchor="end", class_="strong"),
            el("rect", x=left, y=y, width=length, height=row - 8, rx=2, class_="bar c1"),
            el("text", number(value), x=left + length + 6, y=y + 12.5),
        ]
    text = f"{unit}: " + ", ".join(f"{name} {number(value)}" for name, value in items)
    more = len(values) - len(items)
    note = el("p", f"Not drawn: {more:,} more.", class_="note") if more else None
    return join(_svg(text, bars, height=len(items) * row + 4), note)


def confusion_chart(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Markup:
    """A matrix of true (rows) and predicted (columns) labels, shaded by the share of its row.

    Right answers and mistakes have different hues. Numbers and names that could not be read are
    left out.
    """
    n = len(labels)
    left, top = 128.0, 34.0
    cell = min((WIDTH - left - 8) / n, 74.0)
    parts: list[Markup] = []
    if n <= ROWS_NAMED:
        parts += _row_names(labels, left, top, cell)
    if n <= COLUMNS_NAMED:
        parts += _column_names(labels, left, top, cell)
    for i, row in enumerate(counts):
        total = sum(row) or 1
        for j, count in enumerate(row):
            parts += _cell(left + j * cell, top + i * cell, cell, count, count / total, i == j, n)
    bottom = top + n * cell
    middle = left + n * cell / 2
    parts += [
        el("text", "predicted", x=middle, y=12, text_anchor="middle"),
        el(
            "text",
            "true",
            transform=f"translate({_UPRIGHT} {top + n * cell / 2:.1f}) rotate(-90)",
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
    if labels <= COLUMNS_NAMED:
        middle = x + size / 2
        y_text = y + size / 2 + (0 if size > 40 else 4)
        parts.append(el("text", str(count), x=middle, y=y_text, **_STRONG))
        if size > 40:
            parts.append(el("text", f"{share:.0%}", x=middle, y=y_text + 15, **_STRONG))
    return parts


_STRONG = {"class_": "strong", "text_anchor": "middle"}


def _row_names(labels: Sequence[str], left: float, top: float, cell: float) -> list[Markup]:
    size = min(12.0, max(cell * 0.8, 5))
    columns = int((left - 24) / (size * 0.56))
    return [
        el(
            "text",
            name,
            x=left - 6,
            y=top + (i + 0.5) * cell + size / 3,
            text_anchor="end",
            style=f"font-size: {size:.1f}px",
        )
        for i, name in enumerate(fitting(labels, columns))
    ]


def _column_names(labels: Sequence[str], left: float, top: float, cell: float) -> list[Markup]:
    names = fitting(labels, max(int(cell / 6.7), 1))
    style = "font-size: 12px"
    return [
        el("text", name, x=left + (i + 0.5) * cell, y=top - 6, text_anchor="middle", style=style)
        for i, name in enumerate(names)
    ]


def _axes(
    xs: Sequence[float],
    y_range: tuple[float, float],
    x_label: str,
    y_label: str,
    *,
    top: float = TOP,
    whole: bool = False,
    most: float | None = None,
) -> tuple[Scale, Scale, Markup]:
    """Both scales and what is drawn of them.

    Args:
        xs: values of x.
        y_range: of y.
        x_label: what x is.
        y_label: what y is.
        top: where the y axis ends, for what stands above it.
        whole: y counts something: no tick between whole numbers.
        most: y is never more, and so is no tick.
    """
    x_ticks = nice_ticks(min(xs), max(xs), 6)
    y_ticks = nice_ticks(*y_range, whole=whole)
    if most is not None:
        y_ticks = [tick for tick in y_ticks if tick <= most]
    low, high = min(xs), max(xs)
    if not high > low:
        low, high = x_ticks[0], x_ticks[-1]
    y_labels = axis_labels(y_ticks)
    left = max(LEFT, 26 + _DIGIT * max(map(len, y_labels)))
    x = Scale(low, high, left, WIDTH - RIGHT)
    y = Scale(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, top)
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
    upright = f"translate({_UPRIGHT} {(top + base) / 2:.1f}) rotate(-90)"
    parts += [
        el("line", x1=left, x2=WIDTH - RIGHT, y1=base, y2=base, class_="axis"),
        el("text", x_label, x=middle, y=HEIGHT - 6, text_anchor="middle"),
        el("text", y_label, transform=upright, text_anchor="middle"),
    ]
    return x, y, join(parts)


def _line(series: Series, i: int, x: Scale, y: Scale) -> Markup:
    look = f"c{i + 1}"
    points = _finite(series)
    if len(points) == 1:
        ((px, py),) = points
        return el("circle", cx=x(px), cy=y(py), r=4, class_=look)
    parts = [
        el(
            "polyline",
            points=" ".join(f"{x(px):.1f},{y(py):.1f}" for px, py in run),
            class_=f"{look} series",
            stroke_dasharray=DASHES[i],
        )
        for run in _runs(series.points)
        if len(run) > 1
    ]
    if len(points) <= 30:
        parts += [el("circle", cx=x(px), cy=y(py), r=2.5, class_=look) for px, py in points]
    return join(parts)


def _runs(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """The stretches between values that are not finite."""
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if math.isfinite(x) and math.isfinite(y):
            runs[-1].append((x, y))
        elif runs[-1]:
            runs.append([])
    return runs


def _named_together(marks: Mapping[str, float]) -> dict[str, float]:
    """Marks that are shown as the same number under all their names."""
    names: dict[str, list[str]] = {}
    for name, value in marks.items():
        names.setdefault(short(value), []).append(name)
    return {", ".join(of): marks[of[0]] for of in names.values()}


def _marks(marks: Mapping[str, float], x: Scale) -> list[Markup]:
    """Dashed lines, each with its name above the drawing: the last one highest, names to the left.

    So no line crosses the name of another, unless there is no room on the left.
    """
    parts = []
    for i, (name, value) in enumerate(sorted(marks.items(), key=lambda mark: -mark[1])):
        at = x(min(max(value, x.low), x.high))
        row = TOP + _MARK * i
        text = f"{name} {short(value)}"
        room = at - 4 > _DIGIT * len(text)
        parts += [
            el("line", x1=at, x2=at, y1=row - 8, y2=HEIGHT - BOTTOM, class_="mark"),
            el(
                "text",
                text,
                x=at - 4 if room else at + 4,
                y=row,
                text_anchor="end" if room else "start",
                class_="strong over",
            ),
        ]
    return parts


def _limits(limits: Mapping[str, float], x: Scale, y: Scale) -> list[Markup]:
    """Dashed lines across, each with its name; what is above the drawing is named at its top."""
    parts = []
    for i, (name, value) in enumerate(limits.items()):
        if value > y.high:
            label, at = f"↑ limit of {name}: {number(value)}", TOP + 10 + 14 * i
        else:
            label, at = f"limit of {name}: {number(value)}", max(y(value) - 5, TOP + 10)
            parts.append(el("line", x1=x.start, x2=x.end, y1=y(value), y2=y(value), class_="mark"))
        parts.append(
            el("text", label, x=WIDTH - RIGHT - 3, y=at, text_anchor="end", class_="strong over")
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
