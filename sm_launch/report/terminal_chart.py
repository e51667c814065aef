"""A line chart in Braille dots, for terminals: each character holds 2 by 4 of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

Point = tuple[float, float]

_BLANK = 0x2800
# Bit of the dot in column 0 or 1, from the top row to the bottom one.
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))


def braille_chart(points: Sequence[Point], width: int, height: int) -> list[str]:
    """The lines of a chart, with the ends of the y axis in front.

    Args:
        points: (x, y), in the order of x; what is not finite is left out.
        width: characters of the drawing itself.
        height: lines.

    Returns:
        The lines; none where there are fewer than two points.
    """
    shown = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if len(shown) < 2:
        return []
    ys = [y for _, y in shown]
    low, high = min(ys), max(ys)
    cells = [[_BLANK] * width for _ in range(height)]
    for column, row in _dots(shown, (low, high), 2 * width, 4 * height):
        cells[row // 4][column // 2] |= _DOTS[column % 2][row % 4]
    labels = [f"{high:.4g}", *[""] * (height - 2), f"{low:.4g}"] if height > 1 else [f"{high:.4g}"]
    margin = max(len(label) for label in labels)
    return [
        f"{label:>{margin}} ┤{''.join(chr(cell) for cell in row)}"
        for label, row in zip(labels, cells, strict=True)
    ]


def _dots(points: Sequence[Point], ends: Point, columns: int, rows: int) -> set[tuple[int, int]]:
    """Column and row (0 is the top) of every dot; what lies between two points is filled in."""
    first, last = points[0][0], points[-1][0]
    low, high = ends
    placed = [
        (
            round((x - first) / ((last - first) or 1.0) * (columns - 1)),
            round((high - y) / ((high - low) or 1.0) * (rows - 1)),
        )
        for x, y in points
    ]
    dots = set(placed[:1])
    for (x0, y0), (x1, y1) in itertools.pairwise(placed):
        steps = max(abs(x1 - x0), abs(y1 - y0), 1)
        for step in range(1, steps + 1):
            share = step / steps
            dots.add((round(x0 + share * (x1 - x0)), round(y0 + share * (y1 - y0))))
    return dots
