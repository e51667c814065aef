"""Values with their confidence intervals, one below the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sm_launch.report.charts import WIDTH, Scale
from sm_launch.report.html import Markup, el
from sm_launch.report.names import fitting
from sm_launch.report.numbers import axis_labels, nice_ticks, number

_ROW, _LEFT, _RIGHT, _BASE = 26.0, 150.0, 16.0, 22.0
_NAME_COLUMNS = 22


@dataclass(frozen=True)
class Bar:
    """A value between the ends of its interval."""

    name: str
    value: float
    low: float
    high: float


_PERCENT = frozenset({"bleu", "chrf"})


def scaled(name: str, value: float, low: float, high: float) -> Bar:
    """A bar among metrics from 0 to 1: those from 0 to 100 are divided, and say so."""
    if name not in _PERCENT:
        return Bar(name, value, low, high)
    return Bar(f"{name} / 100", value / 100, low / 100, high / 100)


def interval_chart(bars: Sequence[Bar], *, zero: bool = False) -> Markup:
    """A dot for each value and a line for its interval; `zero` marks where nothing differs."""
    known = [bar for bar in bars if bar.low == bar.low and bar.high == bar.high]
    if not known:
        return el("p", "There are too few rows for intervals.", class_="note")
    ends = [end for bar in known for end in (bar.low, bar.high, bar.value)]
    ticks = nice_ticks(min([*ends, *([0.0] if zero else [])]), max([*ends, *([0.0] * zero)]), 5)
    x = Scale(ticks[0], ticks[-1], _LEFT, WIDTH - _RIGHT)
    base = len(known) * _ROW + 4
    parts: list[Markup] = []
    for tick, label in zip(ticks, axis_labels(ticks), strict=True):
        at = min(x(tick), WIDTH - 3.3 * len(label))  # the last one stays within the drawing
        parts += [
            el("line", x1=x(tick), x2=x(tick), y1=0, y2=base, class_="grid"),
            el("text", label, x=at, y=base + 15, text_anchor="middle"),
        ]
    if zero:
        parts.append(el("line", x1=x(0), x2=x(0), y1=0, y2=base, class_="mark"))
    names = fitting([bar.name for bar in known], _NAME_COLUMNS)
    for at, (name, bar) in enumerate(zip(names, known, strict=True)):
        y = at * _ROW + _ROW / 2 + 2
        parts += [
            el("text", name, x=_LEFT - 10, y=y + 4, text_anchor="end", class_="strong"),
            el("line", x1=x(bar.low), x2=x(bar.high), y1=y, y2=y, class_="c1", stroke_width=2.5),
            el("circle", cx=x(bar.value), cy=y, r=4.5, class_="c1"),
        ]
    summary = "; ".join(
        f"{bar.name} {number(bar.value)}, {number(bar.low)} to {number(bar.high)}" for bar in known
    )
    box = f"0 0 {WIDTH:.0f} {base + _BASE:.0f}"
    return el("svg", parts, viewBox=box, role="img", aria_label=f"Intervals: {summary}")
